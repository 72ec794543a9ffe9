//! One entry per decoder and machine, for fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics or gives a value larger
//! than its input allows; encoding what was decoded and decoding that again does not give the same; a machine
//! loses, repeats or reorders a message. What a decoder refuses is fine. A driver hands the bytes of one test
//! case to the function and needs to know nothing else.

mod machines;
mod maps;
mod sessions;
mod values;

pub use values::{message_input, payload_input};

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

macro_rules! table {
    (
        values { $($value:literal => $value_type:ty,)* }
        payloads { $($payload:literal => $payload_type:ident,)* }
        others { $($other:literal => $run:path,)* }
    ) => {
        static TARGETS: &[Target] = &[
            $(($value, values::value::<$value_type>),)*
            $(($payload, values::payload::<crate::msg::$payload_type>),)*
            $(($other, $run),)*
        ];
    };
}

table! {
    values {
        "type_addr" => crate::types::Addr,
        "type_addrvec" => crate::types::AddrVec,
        "type_entity_name" => crate::types::EntityName,
        "type_auth_name" => crate::types::AuthName,
        "type_hobject" => crate::types::HObject,
        "type_object_locator" => crate::types::ObjectLocator,
        "type_pg" => crate::types::PgId,
        "type_spg" => crate::types::ShardPgId,
        "type_request_id" => crate::types::RequestId,
        "type_eversion" => crate::types::EVersion,
        "type_interval_set" => crate::types::IntervalSet,
        "type_monmap" => crate::msg::MonMap,
        "type_mgrmap" => crate::msg::MgrMap,
        "type_pool_stat" => crate::msg::PoolStat,
        "type_log_entry" => crate::msg::LogEntry,
        "type_pg_list_reply" => crate::msg::PgListReply,
        "type_list_watchers_reply" => crate::msg::ListWatchersReply,
        "type_list_snaps_reply" => crate::msg::ListSnapsReply,
        "type_nested" => std::collections::BTreeMap<String, Option<Vec<(u16, bytes::Bytes)>>>,
        "control_hello" => crate::msgr2::control::Hello,
        "control_auth_request" => crate::msgr2::control::AuthRequest,
        "control_auth_bad_method" => crate::msgr2::control::AuthBadMethod,
        "control_auth_done" => crate::msgr2::control::AuthDone,
        "control_client_ident" => crate::msgr2::control::ClientIdent,
        "control_server_ident" => crate::msgr2::control::ServerIdent,
        "control_session_reconnect" => crate::msgr2::control::SessionReconnect,
        "crush_map" => crate::crush::CrushMap,
        "osdmap" => crate::osdmap::OsdMap,
        "osdmap_incremental" => crate::osdmap::Incremental,
    }
    payloads {
        "msg_ping" => Ping,
        "msg_mon_map" => MonMapMessage,
        "msg_mon_subscribe" => MonSubscribe,
        "msg_mon_subscribe_ack" => MonSubscribeAck,
        "msg_config" => ConfigMessage,
        "msg_get_config" => GetConfig,
        "msg_mon_get_version" => MonGetVersion,
        "msg_mon_get_version_reply" => MonGetVersionReply,
        "msg_osd_map" => OsdMapMessage,
        "msg_mgr_map" => MgrMap,
        "msg_statfs" => StatFs,
        "msg_statfs_reply" => StatFsReply,
        "msg_getpoolstats" => GetPoolStats,
        "msg_getpoolstats_reply" => GetPoolStatsReply,
        "msg_poolop" => PoolOp,
        "msg_poolop_reply" => PoolOpReply,
        "msg_mon_command" => MonCommand,
        "msg_mon_command_ack" => MonCommandAck,
        "msg_command" => Command,
        "msg_command_reply" => CommandReply,
        "msg_log" => Log,
        "msg_logack" => LogAck,
        "msg_osd_op" => OsdOp,
        "msg_osd_opreply" => OsdOpReply,
        "msg_osd_backoff" => Backoff,
        "msg_watch_notify" => WatchNotify,
        "msg_osd_boot" => OsdBoot,
        "msg_osd_beacon" => OsdBeacon,
        "msg_osd_stats" => OsdStats,
        "msg_osd_alert" => OsdAlert,
    }
    others {
        "message" => values::any_message,
        "placement" => maps::placement,
        "osdmap_apply" => maps::apply,
        "op_arguments" => values::op_arguments,
        "auth_claim" => values::auth_claim,
        "msgr2_stream_accepting" => machines::stream_accepting,
        "msgr2_stream_connecting" => machines::stream_connecting,
        "msgr2_frames_accepting" => machines::frames_accepting,
        "msgr2_frames_connecting" => machines::frames_connecting,
        "msgr2_frames_reproduced" => machines::frames_reproduced,
        "msgr2_lossless_session" => sessions::lossless_session,
        "block_checksums" => machines::block_checksums,
        "osdmap_sealed" => maps::sealed_map,
        "osdmap_incremental_sealed" => maps::sealed_increment,
        "osdmap_apply_sealed" => maps::sealed_apply,
    }
}

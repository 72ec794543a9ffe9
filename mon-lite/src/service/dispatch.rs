//! What a monitor does with each message.

use bytes::Bytes;
use uuid::Uuid;
use wire::Errno;
use wire::msg::{
    Body, Command, CommandReply, ConfigMessage, GetConfig, GetPoolStats, GetPoolStatsReply, Log, LogAck,
    MonCommand, MonCommandAck, MonGetVersion, MonGetVersionReply, MonMapMessage, MonSubscribe, OsdAlert,
    OsdStats, Ping, PoolOp, PoolOpReply, PoolStat, StatFs, StatFsReply, StatSum, StoreStatfs,
};
use wire::msgr2::Data;
use wire::types::{EntityKind, PoolId};

use super::osd_sessions;
use super::session::{Session, SessionEnd};
use crate::commands::{Outcome, Reply, Request, Table, only_reads, pool_op, run};
use crate::limits::LOG_ENTRIES_PER_MESSAGE_MAX;
use crate::live::{OsdReport, PoolUse};
use crate::state::{Change, cluster_log};
use crate::view::View;

pub async fn handle(session: &mut Session, tid: u64, body: Body) -> Result<(), SessionEnd> {
    match body {
        Body::MonGetMap(_) => get_map(session, tid),
        Body::MonSubscribe(MonSubscribe { what, .. }) => {
            session.subscriptions.add(what);
            session.push_news().await
        }
        Body::MonGetVersion(request) => get_version(session, tid, &request),
        Body::GetConfig(request) => get_config(session, tid, &request),
        Body::StatFs(request) => stat_fs(session, tid, &request),
        Body::GetPoolStats(request) => pool_stats(session, tid, &request),
        Body::PoolOp(request) => change_pool(session, tid, request).await,
        Body::MonCommand(request) => mon_command(session, tid, request).await,
        Body::Command(request) => tell(session, tid, request).await,
        Body::Log(request) => write_log(session, tid, request).await,
        Body::Ping(_) => ping(session, tid),
        Body::OsdBoot(boot) => {
            let osd = from_osd(session, boot.osd)?;
            log::debug!("osd.{osd} boots");
            osd_sessions::boot(session, boot).await
        }
        Body::OsdBeacon(beacon) => {
            let osd = from_osd(session, beacon.osd)?;
            osd_sessions::heard(session, osd);
            Ok(())
        }
        Body::OsdStats(stats) => accept_stats(session, stats),
        Body::OsdAlert(alert) => accept_alert(session, alert),
        other => {
            log::debug!("session {}: {} is not for a monitor", session.number, other.name());
            Ok(())
        }
    }
}

/// Answers a message whose data was too long to be kept. Only commands have an input as long as their users like.
pub fn too_long(session: &mut Session, tid: u64, body: Body) -> Result<(), SessionEnd> {
    let Body::MonCommand(MonCommand { fsid, command, .. }) = body else {
        return Err(SessionEnd::Refused(format!("{} with more data than any message may have", body.name())));
    };
    check_fsid(session, fsid)?;
    let status = "the input is longer than any command takes".to_owned();
    let (result, output) = (Errno::EFBIG.code(), Data::new());
    session.send(tid, MonCommandAck { version: 0, result, status, command, output })
}

/// Ends the session of a client of another cluster. Some commands leave the cluster out.
fn check_fsid(session: &Session, fsid: Uuid) -> Result<(), SessionEnd> {
    let own = session.shared.config.fsid;
    if fsid == own || fsid.is_nil() {
        return Ok(());
    }
    Err(SessionEnd::Refused(format!("it is of cluster {fsid}, this is {own}")))
}

/// The OSD that a message names, if it may come from this peer.
fn from_osd(session: &Session, osd: i32) -> Result<i32, SessionEnd> {
    let sound = session.peer.as_ref().is_some_and(|peer| peer.kind == EntityKind::OSD);
    if !sound || session.osd.is_some_and(|own| own != osd) {
        return Err(SessionEnd::Refused(format!("a message of osd.{osd} from somebody else")));
    }
    Ok(osd)
}

fn get_map(session: &mut Session, tid: u64) -> Result<(), SessionEnd> {
    let map = session.shared.state.borrow().mon_map.as_ref().map(MonMapMessage::new);
    map.map_or(Ok(()), |map| session.send(tid, map))
}

fn get_version(session: &mut Session, tid: u64, request: &MonGetVersion) -> Result<(), SessionEnd> {
    let versions = {
        let state = session.shared.state.borrow();
        match request.what.as_str() {
            "osdmap" => {
                Some((u64::from(state.osd_maps.epoch().0), u64::from(state.osd_maps.oldest_epoch().0)))
            }
            "monmap" => state.mon_map.as_ref().map(|map| (u64::from(map.epoch.0), 1)),
            "mdsmap" | "fsmap" => Some((1, 1)),
            _ => None,
        }
    };
    let Some((version, oldest)) = versions else { return Ok(()) };
    session.send(tid, MonGetVersionReply { handle: request.handle, version, oldest })
}

fn get_config(session: &mut Session, tid: u64, request: &GetConfig) -> Result<(), SessionEnd> {
    let effective = session.shared.state.borrow().config.effective(&request.name);
    let options = effective.into_iter().map(|(name, (_, value))| (name, value)).collect();
    session.send(tid, ConfigMessage { options })
}

fn stat_fs(session: &mut Session, tid: u64, request: &StatFs) -> Result<(), SessionEnd> {
    check_fsid(session, request.fsid)?;
    let reply = session.shared.view(|view| {
        let reports = &view.live.reports;
        let space = reports.space();
        let all = || reports.pools(view.osd_map().pools.keys().copied());
        let of_pool = request.pool.and_then(|id| Some((id, view.osd_map().pools.get(&id)?)));
        let (total, used, available, objects) = match of_pool {
            // What one pool holds, and what it could hold besides.
            Some((id, pool)) => {
                let held = reports.pool(id);
                let used = held.allocated.saturating_add(held.omap_bytes);
                let room = crate::commands::pool_room(view, pool);
                (used.saturating_add(room), used, room, held.objects)
            }
            None => (space.total, space.used(), space.available, all().objects),
        };
        StatFsReply {
            fsid: view.state.fsid,
            version: u64::from(view.osd_map().epoch.0),
            total_kb: total / 1024,
            used_kb: used / 1024,
            available_kb: available / 1024,
            objects,
        }
    });
    session.send(tid, reply)
}

fn pool_stats(session: &mut Session, tid: u64, request: &GetPoolStats) -> Result<(), SessionEnd> {
    check_fsid(session, request.fsid)?;
    let reply = session.shared.view(|view| {
        let map = view.osd_map();
        let known = request.pools.iter().filter_map(|name| Some((name.clone(), map.pool_id(name)?)));
        GetPoolStatsReply {
            version: u64::from(map.epoch.0),
            fsid: view.state.fsid,
            pools: known.map(|(name, id)| (name, pool_stat(view, id))).collect(),
            per_pool: true,
        }
    });
    session.send(tid, reply)
}

fn pool_stat(view: &View<'_>, id: PoolId) -> PoolStat {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let held = view.live.reports.pool(id);
    let PoolUse { objects, bytes, omap_keys, omap_bytes, allocated, io, .. } = held;
    let size = view.osd_map().pools.get(&id).map_or(1, |pool| i64::from(pool.size));
    let pg_num =
        view.osd_map().pools.get(&id).map_or(0, |pool| i32::try_from(pool.pg_num).unwrap_or(i32::MAX));
    let stores = view.live.reports.iter().filter(|(_, report)| report.pools.contains_key(&id)).count();
    PoolStat {
        sum: StatSum {
            bytes: signed(bytes),
            objects: signed(objects),
            copies: signed(objects).saturating_mul(size),
            reads: signed(io.reads),
            reads_kb: signed(io.read_bytes / 1024),
            writes: signed(io.writes),
            writes_kb: signed(io.write_bytes / 1024),
            omap_bytes: signed(omap_bytes),
            omap_keys: signed(omap_keys),
            ..StatSum::default()
        },
        up: pg_num,
        acting: pg_num,
        store: StoreStatfs {
            allocated: signed(allocated),
            data_stored: signed(bytes),
            data_compressed: signed(held.compressed),
            compressed_allocated: signed(held.compressed),
            compressed_original: signed(held.compressed_original),
            omap_allocated: signed(omap_bytes),
            ..StoreStatfs::default()
        },
        stores: i32::try_from(stores).unwrap_or(i32::MAX),
        ..PoolStat::default()
    }
}

async fn change_pool(session: &mut Session, tid: u64, request: PoolOp) -> Result<(), SessionEnd> {
    check_fsid(session, request.fsid)?;
    let shared = session.shared.clone();
    let fsid = shared.config.fsid;
    let decided = shared.propose(move |view| match pool_op::decide(view, &request) {
        Ok(changes) => (changes, 0),
        Err(refusal) => {
            log::debug!("a pool operation is refused: {refusal}");
            (Vec::new(), refusal.code)
        }
    });
    let (result, epoch) = decided.await?;
    session.send(tid, PoolOpReply { version: u64::from(epoch.0), fsid, result, epoch, output: None })
}

/// Runs a command, in turn if it may change something.
async fn execute(
    session: &Session,
    table: Table,
    pieces: &[String],
    input: Bytes,
) -> Result<(Reply, u64), SessionEnd> {
    let shared = &session.shared;
    let request = match Request::parse(pieces, input) {
        Ok(request) => request,
        Err(refusal) => return Ok((refusal.into(), 0)),
    };
    shared.refresh_pg_map().await;
    if only_reads(table, &request) {
        return Ok(shared.view(|view| (run(view, table, &request).reply, u64::from(view.osd_map().epoch.0))));
    }
    let decided = shared.propose(move |view| {
        let Outcome { changes, reply } = run(view, table, &request);
        (changes, reply)
    });
    let (reply, epoch) = decided.await?;
    Ok((reply, u64::from(epoch.0)))
}

async fn mon_command(session: &mut Session, tid: u64, request: MonCommand) -> Result<(), SessionEnd> {
    let MonCommand { fsid, command, input } = request;
    check_fsid(session, fsid)?;
    let (reply, version) = execute(session, Table::Cluster, &command, input.to_bytes()).await?;
    let ack = MonCommandAck {
        version,
        result: reply.code,
        status: reply.status,
        command,
        output: Data::from(reply.output),
    };
    session.send(tid, ack)
}

async fn tell(session: &mut Session, tid: u64, request: Command) -> Result<(), SessionEnd> {
    let Command { fsid, command, input } = request;
    check_fsid(session, fsid)?;
    let (reply, _) = execute(session, Table::Tell, &command, input.to_bytes()).await?;
    let reply = CommandReply { result: reply.code, status: reply.status, output: Data::from(reply.output) };
    session.send(tid, reply)
}

async fn write_log(session: &mut Session, tid: u64, request: Log) -> Result<(), SessionEnd> {
    let Log { fsid, mut entries, .. } = request;
    check_fsid(session, fsid)?;
    entries.truncate(LOG_ENTRIES_PER_MESSAGE_MAX);
    let Some(last) = entries.last().map(|entry| (entry.seq, entry.channel.clone())) else { return Ok(()) };
    let bounded = entries.into_iter().map(|entry| Change::Log(cluster_log::bounded(entry)));
    session.shared.commit(bounded.collect()).await?;
    session.send(tid, LogAck { fsid, last: last.0, channel: last.1 })
}

fn ping(session: &mut Session, tid: u64) -> Result<(), SessionEnd> {
    let health = session.shared.view(|view| crate::health::Health::of(view).value(false));
    let text = serde_json::json!({"health": health, "mon_status": {"name": session.shared.config.name}});
    session.send(tid, Ping { text: Some(text.to_string()) })
}

fn accept_stats(session: &mut Session, stats: OsdStats) -> Result<(), SessionEnd> {
    let osd = from_osd(session, stats.osd)?;
    osd_sessions::heard(session, osd);
    let shared = session.shared.clone();
    if shared.state.borrow().osd_maps.newest().exists(osd) {
        shared.live.borrow_mut().reports.accept(osd, OsdReport::new(stats, shared.now()));
    }
    Ok(())
}

fn accept_alert(session: &mut Session, alert: OsdAlert) -> Result<(), SessionEnd> {
    let osd = from_osd(session, alert.osd)?;
    session.shared.live.borrow_mut().alerts.accept(osd, alert.alerts);
    Ok(())
}

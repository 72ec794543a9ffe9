//! Encoding of the full OSD map: a section for clients, one for OSDs, and a checksum over both.

use std::sync::Arc;

use bytes::Bytes;

use super::map::{MapFlags, OsdMap};
use super::osd::Osd;
use crate::codec::{DecodeResult, Reader, Wire, Writer, decode_exact, encode_to_bytes};
use crate::crc::{SEED, crc32c};
use crate::crush::CrushMap;
use crate::limits::OSDS_MAX;
use crate::types::AddrVec;

pub(super) const MAP_VERSION: u8 = 8;
pub(super) const MAP_COMPAT: u8 = 7;
const CLIENT_VERSION: u8 = 9;
const OSD_VERSION: u8 = 9;

impl OsdMap {
    /// The encoding and the checksum at its end, which an increment that leads here carries too.
    pub fn encode_with_crc(&self) -> (Bytes, u32) {
        let bytes = encode_to_bytes(self);
        let mut crc = [0; 4];
        crc.copy_from_slice(&bytes[bytes.len() - 4..]);
        (bytes, u32::from_le_bytes(crc))
    }
}

impl Wire for OsdMap {
    const BYTES_MIN: usize = 200;

    fn encode(&self, w: &mut Writer) {
        let start = w.len();
        let mut crc_at = 0;
        w.env(MAP_VERSION, MAP_COMPAT, |w| {
            w.env(CLIENT_VERSION, 1, |w| encode_client(self, w));
            w.env(OSD_VERSION, 1, |w| encode_osd(self, w));
            crc_at = w.len();
            w.u32(0);
        });
        let crc = crc32c(SEED, &w.as_slice()[start..crc_at]);
        w.patch_u32(crc_at, crc);
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let mut covered = r.clone();
        let start = r.offset();
        r.env("osd map", MAP_VERSION, |r, version| {
            if version < MAP_VERSION {
                return Err(r.error(format!("version {MAP_VERSION} or newer"), version.to_string()));
            }
            let mut map = Self::default();
            r.env("osd map for clients", CLIENT_VERSION, |r, version| {
                if version < CLIENT_VERSION {
                    return Err(r.error(format!("version {CLIENT_VERSION} or newer"), version.to_string()));
                }
                decode_client(&mut map, r)
            })?;
            r.env("osd map for osds", OSD_VERSION, |r, version| {
                if version < OSD_VERSION {
                    return Err(r.error(format!("version {OSD_VERSION} or newer"), version.to_string()));
                }
                decode_osd(&mut map, r)
            })?;
            let computed = crc32c(SEED, covered.raw(r.offset() - start)?);
            let stored = r.u32()?;
            if stored != computed {
                return Err(r.error(format!("checksum {computed:#010x}"), format!("{stored:#010x}")));
            }
            Ok(map)
        })
    }
}

fn encode_client(map: &OsdMap, w: &mut Writer) {
    w.put(&map.fsid);
    w.put(&map.epoch);
    w.put(&map.created);
    w.put(&map.modified);
    w.map(&map.pools);
    w.map(&map.pool_names);
    w.s32(map.pool_max);
    w.u32(map.flags.0);
    w.count(map.osds.len());
    w.list_with(&map.osds, |w, osd| w.put(&osd.state));
    w.list_with(&map.osds, |w, osd| w.u32(osd.weight));
    w.list_with(&map.osds, |w, osd| w.put(&osd.client_addrs));
    w.map(&map.pg_temp);
    w.map(&map.primary_temp);
    w.list(&map.primary_affinity);
    w.prefixed(|w| w.put(&*map.crush));
    w.map(&map.erasure_code_profiles);
    w.map(&map.pg_upmap);
    w.map(&map.pg_upmap_items);
    w.s32(map.crush_version);
    w.map(&map.new_removed_snaps);
    w.map(&map.new_purged_snaps);
    w.put(&map.last_up_change);
    w.put(&map.last_in_change);
}

fn decode_client(map: &mut OsdMap, r: &mut Reader) -> DecodeResult<()> {
    map.fsid = r.get()?;
    map.epoch = r.get()?;
    map.created = r.get()?;
    map.modified = r.get()?;
    map.pools = r.map()?;
    map.pool_names = r.map()?;
    map.pool_max = r.s32()?;
    map.flags = MapFlags(r.u32()?);
    // In this section alone an OSD takes a state, a weight and a list of addresses.
    let osd_count = r.count(4 + 4 + AddrVec::BYTES_MIN)?;
    if osd_count > OSDS_MAX {
        return Err(r.error(format!("at most {OSDS_MAX} OSDs"), osd_count.to_string()));
    }
    map.osds = vec![Osd::default(); osd_count];
    each_osd(map, r, |osd, r| r.get().map(|state| osd.state = state))?;
    each_osd(map, r, |osd, r| r.u32().map(|weight| osd.weight = weight))?;
    each_osd(map, r, |osd, r| r.get().map(|addrs| osd.client_addrs = addrs))?;
    map.pg_temp = r.map()?;
    map.primary_temp = r.map()?;
    map.primary_affinity = r.list()?;
    if !map.primary_affinity.is_empty() && map.primary_affinity.len() != osd_count {
        return Err(r.error(format!("{osd_count} affinities"), map.primary_affinity.len().to_string()));
    }
    map.crush = decode_crush(r.blob()?)?;
    map.erasure_code_profiles = r.map()?;
    map.pg_upmap = r.map()?;
    map.pg_upmap_items = r.map()?;
    map.crush_version = r.s32()?;
    map.new_removed_snaps = r.map()?;
    map.new_purged_snaps = r.map()?;
    map.last_up_change = r.get()?;
    map.last_in_change = r.get()?;
    Ok(())
}

/// A CRUSH map in a blob of its own.
pub(super) fn decode_crush(blob: Bytes) -> DecodeResult<Arc<CrushMap>> {
    decode_exact("crush map", blob).map(Arc::new)
}

/// One of the lists that run parallel to the OSDs.
fn each_osd(
    map: &mut OsdMap,
    r: &mut Reader,
    mut read: impl FnMut(&mut Osd, &mut Reader) -> DecodeResult<()>,
) -> DecodeResult<()> {
    let count = r.count(4)?;
    if count != map.osds.len() {
        return Err(r.error(format!("one entry for each of {} OSDs", map.osds.len()), count.to_string()));
    }
    map.osds.iter_mut().try_for_each(|osd| read(osd, r))
}

fn encode_osd(map: &OsdMap, w: &mut Writer) {
    w.list_with(&map.osds, |w, osd| w.put(&osd.heartbeat_back_addrs));
    w.list_with(&map.osds, |w, osd| w.put(&osd.info));
    w.put(&map.blocklist);
    w.list_with(&map.osds, |w, osd| w.put(&osd.cluster_addrs));
    w.put(&map.cluster_snapshot_epoch);
    w.str(&map.cluster_snapshot);
    w.list_with(&map.osds, |w, osd| w.put(&osd.uuid));
    w.list_with(&map.osds, |w, osd| w.put(&osd.xinfo));
    w.list_with(&map.osds, |w, osd| w.put(&osd.heartbeat_front_addrs));
    w.put(&map.nearfull_ratio);
    w.put(&map.full_ratio);
    w.put(&map.backfillfull_ratio);
    w.u8(map.require_min_compat_client);
    w.u8(map.require_osd_release);
    w.map(&map.removed_snaps_queue);
    w.map(&map.crush_node_flags);
    w.map(&map.device_class_flags);
}

fn decode_osd(map: &mut OsdMap, r: &mut Reader) -> DecodeResult<()> {
    let addrs = |r: &mut Reader| r.get::<AddrVec>();
    each_osd(map, r, |osd, r| addrs(r).map(|addrs| osd.heartbeat_back_addrs = addrs))?;
    each_osd(map, r, |osd, r| r.get().map(|info| osd.info = info))?;
    map.blocklist = r.get()?;
    each_osd(map, r, |osd, r| addrs(r).map(|addrs| osd.cluster_addrs = addrs))?;
    map.cluster_snapshot_epoch = r.get()?;
    map.cluster_snapshot = r.str()?;
    each_osd(map, r, |osd, r| r.get().map(|uuid| osd.uuid = uuid))?;
    each_osd(map, r, |osd, r| r.get().map(|xinfo| osd.xinfo = xinfo))?;
    each_osd(map, r, |osd, r| addrs(r).map(|addrs| osd.heartbeat_front_addrs = addrs))?;
    map.nearfull_ratio = r.get()?;
    map.full_ratio = r.get()?;
    map.backfillfull_ratio = r.get()?;
    map.require_min_compat_client = r.u8()?;
    map.require_osd_release = r.u8()?;
    map.removed_snaps_queue = r.map()?;
    map.crush_node_flags = r.map()?;
    map.device_class_flags = r.map()?;
    Ok(())
}

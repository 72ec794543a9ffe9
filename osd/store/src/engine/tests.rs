//! Tests of the whole engine, in simulated worlds.

mod beside;
mod caching;
mod checksums;
mod clones;
mod compression;
mod conformance;
mod crash;
mod damaged_keys;
mod defragment;
mod free_list;
mod full_of_keys;
mod history;
mod kv;
mod memory;
mod on_the_way_back;
mod onode_bytes;
mod parts;
mod planted;
mod repair;
mod repair_cut;
mod returns;
mod second_look;
mod small;
mod space;
mod world;

//! Tests of the whole engine, in simulated worlds.

mod caching;
mod checksums;
mod clones;
mod compression;
mod conformance;
mod crash;
mod damaged_keys;
mod free_list;
mod full_of_keys;
mod growing;
mod history;
mod inspect;
mod kv;
mod leaving;
mod memory;
mod on_the_way_back;
mod onode_bytes;
mod parts;
mod planted;
mod returns;
mod second_look;
mod small;
mod space;
mod world;

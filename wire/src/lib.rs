//! Ceph's wire protocol as values and machines: no I/O, no clock.

//! Placement groups as pure machines.

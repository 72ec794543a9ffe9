//! The cluster simulator.

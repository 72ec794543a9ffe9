//! Allocators over ranges of blocks: pure, synchronous, deterministic, bounded.

//! The object store seam, its memory implementation, and the engine.

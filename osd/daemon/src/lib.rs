//! The OSD daemon core.

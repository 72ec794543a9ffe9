//! BlueFS and the key-value seam.

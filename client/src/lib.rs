//! A librados-like client.

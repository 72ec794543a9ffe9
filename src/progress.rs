//! Progress bars for what takes long, on standard error and only if a person looks at it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `total` steps with a caption.
pub fn bar(caption: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg:24} [{bar:40}] {pos}/{len} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_message(caption.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

//! Figures for a push gateway, where nobody can come and fetch them.

use super::Page;
use crate::error::Result;
use crate::web::{Address, Request};

/// Replaces what the gateway holds for this job. `url` is the gateway's own, or the full one of a group
/// (`…/metrics/job/NAME/…`); without a group it is that of `snapkeep` on `host`.
pub fn push(url: &Address, host: &str, page: &Page) -> Result<()> {
    let full = match url.expose().contains("/metrics/job/") {
        true => url.clone(),
        false => url.below(&["metrics", "job", "snapkeep", "instance", host]),
    };
    let text = page.text();
    // The gateway knows Prometheus' own format only, and no end mark.
    let text = text.trim_end_matches("# EOF\n");
    Request::put(&full).header("Content-Type", "text/plain; version=0.0.4").send(text.as_bytes()).map(|_| ())
}

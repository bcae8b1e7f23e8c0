//! The words that say which snapshots to keep.

use super::options::tag_sets;
use crate::clock::{Reach, Zone};
use crate::error::Result;
use crate::retention::{Count, Period, Policy, span};
use clap::Args;

/// Rules; a snapshot is kept when any of them keeps it. N is a number, or `unlimited`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What to keep")]
pub struct PolicyArgs {
    /// The last N snapshots
    #[arg(short = 'l', long, value_name = "N", value_parser = count, visible_alias = "keep-latest", allow_hyphen_values = true)]
    keep_last: Option<Count>,
    /// The last snapshot of each of the last N minutes that have one
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_minutely: Option<Count>,
    /// … of each of the last N hours that have one
    #[arg(short = 'H', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_hourly: Option<Count>,
    /// … days
    #[arg(short = 'd', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_daily: Option<Count>,
    /// … ISO weeks
    #[arg(short = 'w', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_weekly: Option<Count>,
    /// … months
    #[arg(short = 'm', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_monthly: Option<Count>,
    /// … quarters of a year
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_quarter_yearly: Option<Count>,
    /// … halves of a year
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_half_yearly: Option<Count>,
    /// … years
    #[arg(short = 'y', long, value_name = "N", value_parser = count, visible_alias = "keep-annual", allow_hyphen_values = true)]
    keep_yearly: Option<Count>,
    /// All snapshots within SPAN (2y5m7d3h) of the newest
    #[arg(long, value_name = "SPAN", value_parser = reach)]
    keep_within: Option<Reach>,
    /// The last of each hour within SPAN
    #[arg(long, value_name = "SPAN", value_parser = reach)]
    keep_within_hourly: Option<Reach>,
    /// The last of each day within SPAN
    #[arg(long, value_name = "SPAN", value_parser = reach)]
    keep_within_daily: Option<Reach>,
    /// The last of each ISO week within SPAN
    #[arg(long, value_name = "SPAN", value_parser = reach)]
    keep_within_weekly: Option<Reach>,
    /// The last of each month within SPAN
    #[arg(long, value_name = "SPAN", value_parser = reach)]
    keep_within_monthly: Option<Reach>,
    /// The last of each year within SPAN
    #[arg(long, value_name = "SPAN", value_parser = reach)]
    keep_within_yearly: Option<Reach>,
    /// Snapshots with all of these tags
    #[arg(long, value_name = "TAG[,TAG…]")]
    keep_tag: Vec<String>,
    /// A floor: never leave fewer than N of a host and paths
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_min: u32,
    /// Whose days, weeks and hours: system, UTC, a name, or a POSIX rule
    #[arg(long, value_name = "ZONE", default_value = "system", value_parser = Zone::parse)]
    time_zone: Option<Zone>,
}

fn count(text: &str) -> Result<Count> {
    Count::parse(text)
}

fn reach(text: &str) -> Result<Reach> {
    span::parse(text)
}

impl PolicyArgs {
    pub fn policy(&self) -> Policy {
        let counts = [
            (Period::Last, self.keep_last),
            (Period::Minutely, self.keep_minutely),
            (Period::Hourly, self.keep_hourly),
            (Period::Daily, self.keep_daily),
            (Period::Weekly, self.keep_weekly),
            (Period::Monthly, self.keep_monthly),
            (Period::QuarterYearly, self.keep_quarter_yearly),
            (Period::HalfYearly, self.keep_half_yearly),
            (Period::Yearly, self.keep_yearly),
        ];
        let within = [
            (Period::Last, self.keep_within),
            (Period::Hourly, self.keep_within_hourly),
            (Period::Daily, self.keep_within_daily),
            (Period::Weekly, self.keep_within_weekly),
            (Period::Monthly, self.keep_within_monthly),
            (Period::Yearly, self.keep_within_yearly),
        ];
        Policy {
            counts: counts.into_iter().filter_map(|(period, count)| Some((period, count?))).collect(),
            within: within.into_iter().filter_map(|(period, reach)| Some((period, reach?))).collect(),
            tags: tag_sets(&self.keep_tag),
            floor: self.keep_min,
        }
    }

    pub fn zone(&self) -> Zone {
        self.time_zone.clone().unwrap_or_else(Zone::system)
    }

    /// Whether any of them was given, a floor included.
    pub fn is_given(&self) -> bool {
        let policy = self.policy();
        !policy.counts.is_empty() || !policy.within.is_empty() || !policy.tags.is_empty() || policy.floor > 0
    }
}

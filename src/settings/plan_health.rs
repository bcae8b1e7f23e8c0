//! What a profile says of health, metrics and reports, besides the options of those commands.
//!
//! `settings::parse` reads `[health]`, `[metrics]` and `[report]` into these (`serde`, from the section as JSON, its options and job
//! keys left out or not: what is unknown here is passed over, since the check of the profile has seen it).

use super::plan_notify::{Secret, span};
use crate::error::{Error, Result};
use crate::health::Limits;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;
use std::time::Duration;

/// `[health]`: limits where they are not the usual ones. Shares are of 1.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct HealthLimits {
    pub max_age: ClassAges,
    #[serde(deserialize_with = "some_span")]
    pub check_age: Option<Duration>,
    #[serde(deserialize_with = "some_span")]
    pub drill_age: Option<Duration>,
    #[serde(deserialize_with = "some_share")]
    pub free_warn: Option<f64>,
    #[serde(deserialize_with = "some_share")]
    pub free_critical: Option<f64>,
    #[serde(deserialize_with = "some_span")]
    pub full_within: Option<Duration>,
    #[serde(deserialize_with = "some_share")]
    pub shrink_warn: Option<f64>,
    #[serde(deserialize_with = "some_share")]
    pub grow_warn: Option<f64>,
}

/// By class.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClassAges {
    #[serde(deserialize_with = "some_span")]
    pub critical: Option<Duration>,
    #[serde(deserialize_with = "some_span")]
    pub high: Option<Duration>,
    #[serde(deserialize_with = "some_span")]
    pub medium: Option<Duration>,
}

impl HealthLimits {
    /// With the usual limits where nothing is said.
    pub fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            age_critical: self.max_age.critical.unwrap_or(usual.age_critical),
            age_high: self.max_age.high.unwrap_or(usual.age_high),
            age_medium: self.max_age.medium.unwrap_or(usual.age_medium),
            check_age: self.check_age.unwrap_or(usual.check_age),
            drill_age: self.drill_age.unwrap_or(usual.drill_age),
            free_warn: self.free_warn.unwrap_or(usual.free_warn),
            free_critical: self.free_critical.unwrap_or(usual.free_critical),
            full_within: self.full_within.unwrap_or(usual.full_within),
            shrink: self.shrink_warn.unwrap_or(usual.shrink),
            grow: self.grow_warn.unwrap_or(usual.grow),
        }
    }

    /// Limits that fit together.
    pub fn check(&self) -> Result<()> {
        let limits = self.limits();
        if limits.free_critical > limits.free_warn {
            return Err(Error::invalid("[health] free-critical is more than free-warn"));
        }
        if limits.shrink > 1.0 || limits.free_warn > 1.0 {
            return Err(Error::invalid("[health] a share of what there is cannot be more than 100%"));
        }
        Ok(())
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct MetricsPlan {
    /// For node_exporter's textfile collector: its name must end with `.prom`.
    pub file: Option<PathBuf>,
    /// A push gateway.
    pub push: Option<Secret>,
    /// Where the daemon listens: `127.0.0.1:9105`, or `:9105` for this machine alone.
    pub listen: Option<String>,
}

impl MetricsPlan {
    pub fn is_empty(&self) -> bool {
        self.file.is_none() && self.push.is_none() && self.listen.is_none()
    }

    /// What node_exporter would not read, or not find, is no use.
    pub fn check(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if !file.is_absolute() {
            return Err(Error::invalid("[metrics] file must be named by its whole path"));
        }
        match file.extension().is_some_and(|e| e == "prom") {
            true => Ok(()),
            false => {
                Err(Error::invalid("[metrics] file must end with `.prom`, or node_exporter passes it over"))
            }
        }
    }
}

fn some_span<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Duration>, D::Error> {
    span(from).map(Some)
}

/// `15%` or 15.
fn some_share<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Share {
        Number(f64),
        Text(String),
    }
    let per_cent = match Share::deserialize(from)? {
        Share::Number(n) => Some(n),
        Share::Text(text) => text.trim().trim_end_matches('%').trim_end().parse().ok(),
    };
    let share = per_cent.filter(|n| (0.0..=100_000.0).contains(n)).map(|n| n / 100.0);
    share.map(Some).ok_or_else(|| serde::de::Error::custom("this is no share; use for example \"15%\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_is_as_usual() {
        let section = json!({ "max-age": { "critical": "1h" }, "free-warn": "20%", "grow-warn": 300, "schedule": "daily" });
        let limits: HealthLimits = serde_json::from_value(section).expect("a section");
        limits.check().expect("good");
        let limits = limits.limits();
        assert_eq!((limits.age_critical.as_secs(), limits.free_warn, limits.grow), (3600, 0.2, 3.0));
        assert_eq!(limits.age_high, Limits::default().age_high);
        let bad: HealthLimits = serde_json::from_value(json!({ "free-critical": "50%" })).expect("a section");
        assert!(bad.check().is_err());
        let file: MetricsPlan = serde_json::from_value(json!({ "file": "/x/y.txt" })).expect("a section");
        assert!(file.check().is_err());
    }
}

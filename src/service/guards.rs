//! Whether this is a good moment for work that nobody waits for: power, load.

use crate::settings::plan::{Battery, RunLimits};
use std::path::{Path, PathBuf};

/// What `/sys` and `/proc` say about the machine; below `root`, so that tests have a machine of their own.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Machine { root: PathBuf::from("/") }
    }
}

impl Machine {
    pub fn below(root: &Path) -> Self {
        Machine { root: root.to_owned() }
    }

    /// Why jobs should not begin now, in words that stay the same as long as the reason does; `None` when nothing speaks against it. What the machine does not tell is no reason.
    pub fn objection(&self, limits: &RunLimits) -> Option<String> {
        self.power(limits).or_else(|| self.load(limits))
    }

    /// Running on a battery, when the profile has something against that.
    pub fn power(&self, limits: &RunLimits) -> Option<String> {
        let charge = self.on_battery()?;
        let least = limits.min_battery;
        match limits.battery {
            Battery::Skip => Some("the machine runs on its battery".to_owned()),
            Battery::Run => {
                let low = charge.is_some_and(|charge| charge < u64::from(least));
                low.then(|| format!("the machine runs on its battery, with less than {least} % left"))
            }
        }
    }

    /// More work than the profile allows to begin beside.
    pub fn load(&self, limits: &RunLimits) -> Option<String> {
        let most = limits.max_load?;
        let text = std::fs::read_to_string(self.root.join("proc/loadavg")).ok()?;
        let load: f64 = text.split(' ').next()?.parse().ok()?;
        (load > most).then(|| format!("the machine's load is above {most}"))
    }

    /// `None` on mains power, and where there is no battery; else the charge in per cent, if it is told.
    fn on_battery(&self) -> Option<Option<u64>> {
        let supplies = std::fs::read_dir(self.root.join("sys/class/power_supply")).ok()?;
        let (mut mains, mut charge, mut discharging) = (false, None, false);
        for dir in supplies.flatten().map(|entry| entry.path()) {
            let read =
                |name: &str| std::fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned()).ok();
            let kind = read("type").unwrap_or_default();
            if kind != "Battery" {
                mains |= read("online").is_some_and(|online| online != "0");
            } else if read("scope").as_deref() != Some("Device") {
                // Those of mice and headsets power no machine.
                discharging |= read("status").as_deref() == Some("Discharging");
                let told: Option<u64> = read("capacity").and_then(|text| text.parse().ok());
                charge = charge.into_iter().chain(told).min();
            }
        }
        (discharging && !mains).then_some(charge)
    }
}

//! Which share of requests goes to which priority: Envoy's calculation, in Envoy's whole percents.
//!
//! Invariant: the shares of healthy and degraded hosts of all priorities add up to 100.

/// How many hosts of a priority are how well, or what they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    /// All hosts.
    pub hosts: u64,
    /// Those that count neither as healthy nor as unhealthy.
    pub excluded: u64,
    /// Healthy hosts.
    pub healthy: u64,
    /// Degraded hosts.
    pub degraded: u64,
    /// Weight of all hosts but the excluded.
    pub weight: u64,
    /// Weight of healthy hosts.
    pub healthy_weight: u64,
    /// Weight of degraded hosts.
    pub degraded_weight: u64,
}

/// Shares of load by priority, in percent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Of healthy hosts.
    pub healthy: Vec<u32>,
    /// Of degraded hosts.
    pub degraded: Vec<u32>,
    /// Priorities in which all hosts are used, well or not.
    pub panic: Vec<bool>,
}

/// Which hosts of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
}

/// How well priorities are, in percent, after overprovisioning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Percents {
    healthy: Vec<u32>,
    degraded: Vec<u32>,
}

impl Percents {
    pub(crate) fn new(priorities: &[Availability], overprovisioning: u32, weighted: bool) -> Percents {
        let percent = |part: u64, whole: u64| {
            // Capped, hence it fits.
            u64::from(overprovisioning).saturating_mul(part).checked_div(whole).unwrap_or(0).min(100) as u32
        };
        let healthy = |all: &Availability| match weighted {
            true => percent(all.healthy_weight, all.weight),
            false => percent(all.healthy, all.hosts - all.excluded),
        };
        let degraded = |all: &Availability| match weighted {
            true => percent(all.degraded_weight, all.weight),
            false => percent(all.degraded, all.hosts - all.excluded),
        };
        Percents {
            healthy: priorities.iter().map(healthy).collect(),
            degraded: priorities.iter().map(degraded).collect(),
        }
    }

    /// What there is in all, at most 100.
    fn total(&self) -> u32 {
        self.healthy.iter().chain(&self.degraded).sum::<u32>().min(100)
    }

    /// The same without some priorities.
    pub(crate) fn without(&self, excluded: impl Fn(usize) -> bool) -> Percents {
        let keep = |all: &[u32]| {
            all.iter()
                .enumerate()
                .map(|(place, percent)| if excluded(place) { 0 } else { *percent })
                .collect()
        };
        Percents { healthy: keep(&self.healthy), degraded: keep(&self.degraded) }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.total() == 0
    }

    /// The load that each priority takes, healthy hosts first; what rounding leaves goes to the first that has any.
    pub(crate) fn distribute(&self) -> (Vec<u32>, Vec<u32>) {
        let total = self.total();
        let mut left = 100;
        let mut share = |all: &[u32]| -> Vec<u32> {
            let part = |percent: &u32| {
                let share = (percent * 100).checked_div(total).unwrap_or(0).min(left);
                left -= share;
                share
            };
            all.iter().map(part).collect()
        };
        let (mut healthy, mut degraded) = (share(&self.healthy), share(&self.degraded));
        let first = |all: &[u32]| all.iter().position(|percent| *percent > 0);
        let rest = match (first(&self.healthy), first(&self.degraded)) {
            (Some(place), _) => healthy.get_mut(place),
            (None, Some(place)) => degraded.get_mut(place),
            (None, None) => None,
        };
        if let Some(share) = rest {
            *share += left;
        }
        (healthy, degraded)
    }
}

impl Loads {
    /// The shares. `panic_threshold` is a percentage of healthy hosts.
    pub fn calculate(
        priorities: &[Availability],
        overprovisioning: u32,
        weighted: bool,
        panic_threshold: u32,
    ) -> Loads {
        let percents = Percents::new(priorities, overprovisioning, weighted);
        let total = percents.total();
        if total == 0 && panic_threshold == 0 {
            return Loads::all_to_first(priorities.len());
        }
        let panic: Vec<bool> =
            priorities.iter().map(|all| total != 100 && is_panicking(all, panic_threshold)).collect();
        if panic.iter().all(|panicking| *panicking) {
            return Loads::by_hosts(priorities, panic);
        }
        let (healthy, degraded) = percents.distribute();
        Loads { healthy, degraded, panic }
    }

    fn all_to_first(count: usize) -> Loads {
        let mut healthy = vec![0; count];
        if let Some(first) = healthy.first_mut() {
            *first = 100;
        }
        Loads { healthy, degraded: vec![0; count], panic: vec![false; count] }
    }

    /// With every priority in panic, each takes load by its number of hosts.
    fn by_hosts(priorities: &[Availability], panic: Vec<bool>) -> Loads {
        let hosts: u64 = priorities.iter().map(|all| all.hosts).sum();
        if hosts == 0 {
            return Loads { panic, ..Loads::all_to_first(priorities.len()) };
        }
        let share = |all: &Availability| u32::try_from(100 * all.hosts / hosts).unwrap_or(100);
        let mut healthy: Vec<u32> = priorities.iter().map(share).collect();
        let left = 100 - healthy.iter().sum::<u32>();
        let first = priorities.iter().position(|all| all.hosts > 0);
        if let Some(share) = first.and_then(|place| healthy.get_mut(place)) {
            *share += left;
        }
        Loads { healthy, degraded: vec![0; priorities.len()], panic }
    }

    /// The priority for a random number, or a hash.
    pub fn choose(&self, random: u64) -> (usize, Standing) {
        choose(&self.healthy, &self.degraded, random)
    }
}

/// The priority for a random number, or a hash: Envoy takes it modulo 100.
pub(crate) fn choose(healthy: &[u32], degraded: &[u32], random: u64) -> (usize, Standing) {
    // Between 1 and 100.
    let wanted = (random % 100) as u32 + 1;
    let mut sum = 0;
    let standings = [(healthy, Standing::Healthy), (degraded, Standing::Degraded)];
    for (shares, standing) in standings {
        for (place, share) in shares.iter().enumerate() {
            sum += share;
            if wanted <= sum {
                return (place, standing);
            }
        }
    }
    (0, Standing::Healthy)
}

fn is_panicking(all: &Availability, threshold: u32) -> bool {
    let hosts = all.hosts - all.excluded;
    if hosts == 0 {
        return threshold > 0;
    }
    let percent = 100.0 * (all.healthy + all.degraded) as f64 / hosts as f64;
    percent < f64::from(threshold)
}

//! How long to wait between tries.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::BackoffStrategy;

use crate::Refusal;
use crate::proto::duration;

/// Exponential waiting times with full jitter, as Envoy has them: a wait is drawn below `base * 2^n`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The first bound; at least a millisecond.
    pub base: Duration,
    /// The last.
    pub max: Duration,
}

/// Shortest bound.
const SHORTEST: Duration = Duration::from_millis(1);

impl BackOff {
    /// From a base and, if it is given, a maximum; ten times the base if it is not.
    pub(crate) fn new(base: Duration, max: Option<Duration>) -> Result<BackOff, Refusal> {
        let base = base.max(SHORTEST);
        let max = max.map_or(base.saturating_mul(10), |max| max.max(SHORTEST));
        if max < base {
            return Err(Refusal::invalid("max_interval is less than base_interval"));
        }
        Ok(BackOff { base, max })
    }

    /// Reads a `BackoffStrategy`.
    pub(crate) fn compile(proto: &BackoffStrategy) -> Result<BackOff, Refusal> {
        let BackoffStrategy { base_interval, max_interval } = proto;
        let base = base_interval.as_ref().ok_or_else(|| Refusal::invalid("no base_interval"))?;
        BackOff::new(duration(base)?, max_interval.as_ref().map(duration).transpose()?)
    }

    /// The wait before retry `n` (from 0).
    pub fn wait(self, n: u32, random: u64) -> Duration {
        let bound = self.base.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)).min(self.max);
        let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(random % millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_last() {
        let back_off = BackOff::new(Duration::from_millis(25), None).unwrap();
        assert_eq!(back_off.max, Duration::from_millis(250));
        let widest = |n| (0..1000).map(|random| back_off.wait(n, random)).max().unwrap().as_millis();
        assert_eq!([widest(0), widest(1), widest(3), widest(9), widest(90)], [24, 49, 199, 249, 249]);
        assert!(BackOff::new(Duration::from_millis(2), Some(Duration::from_millis(1))).is_err());
    }
}

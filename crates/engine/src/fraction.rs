//! Envoy's `FractionalPercent` and `Percent`: a share of requests, decided by a random number.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};

use crate::Refusal;
use crate::proto::enumeration;

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// Never.
    pub const NONE: Fraction = Fraction { numerator: 0, denominator: 100 };
    /// Always.
    pub const ALL: Fraction = Fraction { numerator: 100, denominator: 100 };

    /// Reads a fraction.
    pub(crate) fn compile(proto: &FractionalPercent) -> Result<Fraction, Refusal> {
        let FractionalPercent { numerator, denominator } = *proto;
        let denominator = match enumeration(denominator, "denominator")? {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        Ok(Fraction { numerator, denominator })
    }

    /// The default value; runtime keys have no meaning here, as there is no runtime to override them.
    pub(crate) fn of_runtime(proto: &RuntimeFractionalPercent) -> Result<Fraction, Refusal> {
        let RuntimeFractionalPercent { default_value, runtime_key: _ } = proto;
        Fraction::compile(&default_value.unwrap_or_default())
    }

    /// A percentage, to a hundredth of a percent; [`Fraction::ALL`] if there is none.
    pub(crate) fn of_percent(proto: Option<&Percent>) -> Result<Fraction, Refusal> {
        let Some(Percent { value }) = proto else { return Ok(Fraction::ALL) };
        if !(0.0..=100.0).contains(value) {
            return Err(Refusal::invalid(format!("{value} percent")));
        }
        // Between 0 and 10,000 by the check above.
        Ok(Fraction { numerator: (value * 100.0).round() as u32, denominator: 10_000 })
    }

    /// Numerator and denominator.
    pub fn parts(self) -> (u32, u32) {
        (self.numerator, self.denominator)
    }

    /// The same share of another denominator's: how a header overrides the numerator.
    pub(crate) fn with_numerator(self, numerator: u32) -> Fraction {
        Fraction { numerator, ..self }
    }

    /// Whether something with this random number is part of the share.
    pub fn holds(self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert!((0..200).all(|n| Fraction::ALL.holds(n) && !Fraction::NONE.holds(n)));
        let half = Fraction::of_percent(Some(&Percent { value: 50.0 })).unwrap();
        assert_eq!((0..10_000).filter(|n| half.holds(*n)).count(), 5_000);
        assert_eq!(half.parts(), (5_000, 10_000));
        assert!(Fraction::of_percent(Some(&Percent { value: 100.1 })).is_err());
        assert!(Fraction::compile(&FractionalPercent { numerator: 1, denominator: 9 }).is_err());
    }
}

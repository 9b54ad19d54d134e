//! C's `double` in integer arithmetic. The results equal those of `strtod`, `*`, `/` and `rint`. A
//! text therefore gives the same number in every build.

/// A finite number: `mantissa` times two to the power `exponent`. The mantissa is 0 or has 53 bits.
/// The exponent has no limits. A number that would overflow a `double` is outside every setting's
/// range. A number that would underflow is rounded to 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Double {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// Bits of a mantissa.
const BITS: u32 = 53;

impl Double {
    pub(super) fn from_i64(value: i64) -> Self {
        Self::rounded(value < 0, u128::from(value.unsigned_abs()), 0, false)
    }

    /// The number closest to `mantissa` times two to the power `exponent`. `inexact` means that the
    /// true value is slightly larger than this product. Ties are rounded to even.
    pub(super) fn rounded(negative: bool, mantissa: u128, exponent: i32, inexact: bool) -> Self {
        let bits = u128::BITS - mantissa.leading_zeros();
        let excess = bits.saturating_sub(BITS);
        let mut kept = low_64(mantissa >> excess);
        if excess > 0 {
            let half = 1 << (excess - 1);
            let rest = mantissa & ((1 << excess) - 1);
            if rest > half || (rest == half && (inexact || kept % 2 == 1)) {
                kept += 1;
            }
        }
        let value = Self {
            negative,
            mantissa: kept,
            exponent: exponent.saturating_add_unsigned(excess),
        };
        value.normalized()
    }

    /// The finite number with these IEEE 754 bits.
    pub(super) fn from_bits(bits: u64) -> Self {
        let biased = i32::try_from(bits >> 52 & 0x7FF).expect("11 bits");
        let fraction = bits & ((1 << 52) - 1);
        let value = Self {
            negative: bits >> 63 == 1,
            mantissa: if biased == 0 {
                fraction
            } else {
                fraction | 1 << 52
            },
            exponent: biased.max(1) - 1075,
        };
        value.normalized()
    }

    /// The IEEE 754 bits. `None` if the number is too large, or so small that bits would be lost.
    pub(super) fn to_bits(self) -> Option<u64> {
        let sign = u64::from(self.negative) << 63;
        if self.mantissa == 0 {
            return Some(sign);
        }
        let biased = u64::try_from(self.exponent.checked_add(1075)?).ok();
        let biased = biased.filter(|biased| (1..2047).contains(biased))?;
        Some(sign | biased << 52 | (self.mantissa & ((1 << 52) - 1)))
    }

    fn normalized(mut self) -> Self {
        if self.mantissa == 0 {
            self.exponent = 0;
            return self;
        }
        let missing = self
            .mantissa
            .leading_zeros()
            .saturating_sub(u64::BITS - BITS);
        self.mantissa <<= missing;
        self.exponent = self.exponent.saturating_sub_unsigned(missing);
        if self.mantissa >> BITS > 0 {
            self.mantissa >>= 1;
            self.exponent = self.exponent.saturating_add(1);
        }
        self
    }

    pub(super) fn times(self, other: Self) -> Self {
        let product = u128::from(self.mantissa) * u128::from(other.mantissa);
        let exponent = self.exponent.saturating_add(other.exponent);
        Self::rounded(self.negative != other.negative, product, exponent, false)
    }

    /// The quotient. The divisor must not be 0.
    pub(super) fn over(self, other: Self) -> Self {
        let (dividend, divisor) = (u128::from(self.mantissa) << 64, u128::from(other.mantissa));
        let exponent = self
            .exponent
            .saturating_sub(other.exponent)
            .saturating_sub(64);
        let negative = self.negative != other.negative;
        Self::rounded(
            negative,
            dividend / divisor,
            exponent,
            dividend % divisor > 0,
        )
    }

    /// `rint`: the closest whole number. Ties are rounded to even.
    pub(super) fn rint(self) -> Self {
        if self.exponent >= 0 {
            return self;
        }
        let shift = self.exponent.unsigned_abs();
        let whole = if shift > BITS {
            0
        } else {
            let rest = self.mantissa & ((1 << shift) - 1);
            let half = 1 << (shift - 1);
            let whole = self.mantissa >> shift;
            whole + u64::from(rest > half || (rest == half && whole % 2 == 1))
        };
        Self::rounded(self.negative, whole.into(), 0, false)
    }

    /// The integer value of a whole number. `None` if the integer needs more than 62 bits.
    pub(super) fn to_i64(self) -> Option<i64> {
        let magnitude = match self.exponent {
            0..=9 => self.mantissa << self.exponent,
            -52..0 => self.mantissa >> self.exponent.unsigned_abs(),
            _ if self.mantissa == 0 => 0,
            _ => return None,
        };
        let value = i64::try_from(magnitude).expect("at most 62 bits");
        Some(if self.negative { -value } else { value })
    }
}

fn low_64(value: u128) -> u64 {
    u64::try_from(value).expect("at most 53 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Double {
        Double::from_bits(text.parse::<f64>().expect("a number").to_bits())
    }

    /// The expected values are the output of a C program that does the same operations.
    #[test]
    fn results_equal_those_of_the_processor() {
        for (left, right, product, quotient) in [
            ("0.1", "0.2", "0.020000000000000004", "0.5"),
            ("1.0005", "1000", "1000.5", "0.0010004999999999999"),
            ("4.35", "100", "434.99999999999994", "0.0435"),
            ("30.1", "1048576", "31562137.6", "2.8705596923828126e-05"),
            ("-2.5", "3", "-7.5", "-0.8333333333333334"),
            ("1e300", "0.001", "1e297", "1e303"),
        ] {
            assert_eq!(
                read(left).times(read(right)),
                read(product),
                "{left} * {right}"
            );
            assert_eq!(
                read(left).over(read(right)),
                read(quotient),
                "{left} / {right}"
            );
        }
    }

    #[test]
    fn ties_go_to_the_even_number() {
        for (text, whole) in [
            ("0.5", 0),
            ("0.5000000000000001", 1),
            ("1.5", 2),
            ("2.5", 2),
            ("-2.5", -2),
            ("-0.4", 0),
            ("1e-300", 0),
            ("4503599627370495.5", 4_503_599_627_370_496),
            ("0", 0),
        ] {
            assert_eq!(read(text).rint().to_i64(), Some(whole), "{text}");
        }
        assert_eq!(read("1e300").rint().to_i64(), None);
        // The result of strtol is converted to a double, which has fewer bits than a long.
        assert_eq!(Double::from_i64(i64::MAX), read("9223372036854775808"));
        assert_eq!(Double::from_i64(i64::MIN).to_i64(), None);
    }

    #[test]
    fn bits_round_trip() {
        for text in [
            "0",
            "-0.0",
            "1",
            "0.1",
            "-123.456",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
        ] {
            let bits = text.parse::<f64>().expect("a number").to_bits();
            assert_eq!(Double::from_bits(bits).to_bits(), Some(bits), "{text}");
        }
        assert_eq!(read("1e308").times(read("10")).to_bits(), None);
    }
}

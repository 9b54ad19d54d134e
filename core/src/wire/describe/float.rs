//! Prints doubles as printf's `%g` does. Uses integer arithmetic on the bits of a double.

use super::text::Text;
use alloc::vec;
use alloc::vec::Vec;

/// The number of significant digits that `%g` prints.
const SHOWN: usize = 6;
/// The base of [`Big`]. Each element holds nine decimal digits.
const BASE: u64 = 1_000_000_000;

/// An integer of any size. The lowest part comes first.
struct Big(Vec<u64>);

impl Big {
    fn multiply(&mut self, by: u64) {
        let mut carry = 0;
        for part in &mut self.0 {
            // The product fits into 64 bits. `part` is at most about 2^30, and `by` is at most 2^20
            // or 5^8.
            let product = *part * by + carry;
            *part = product % BASE;
            carry = product / BASE;
        }
        if carry > 0 {
            self.0.push(carry);
        }
    }

    fn multiply_times(&mut self, by: u64, times: u32, at_once: u32) {
        for _ in 0..times / at_once {
            self.multiply(by.pow(at_once));
        }
        for _ in 0..times % at_once {
            self.multiply(by);
        }
    }

    /// The decimal digits, highest first, without leading zeros.
    fn digits(&self) -> Vec<u8> {
        let mut digits = Vec::new();
        for part in self.0.iter().rev() {
            let mut rest = *part;
            let mut nine = [0; 9];
            for digit in nine.iter_mut().rev() {
                *digit = u8::try_from(rest % 10).expect("a digit");
                rest /= 10;
            }
            digits.extend_from_slice(&nine);
        }
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.split_off(zeros)
    }
}

impl Text {
    /// Adds the double with these bits (`%g`). Infinity and NaN are printed as in PostgreSQL's own
    /// printf.
    pub(super) fn double(&mut self, bits: u64) -> &mut Self {
        let fraction = bits & ((1 << 52) - 1);
        let exponent = bits >> 52 & 0x7FF;
        if exponent == 0x7FF && fraction != 0 {
            return self.add("NaN");
        }
        if bits >> 63 != 0 {
            self.add("-");
        }
        if exponent == 0x7FF {
            return self.add("Infinity");
        }
        if exponent == 0 && fraction == 0 {
            return self.add("0");
        }
        let (mantissa, exponent) = match u32::try_from(exponent).expect("eleven bits") {
            0 => (fraction, 1),
            exponent => (fraction | 1 << 52, exponent),
        };
        // The number is mantissa * 2^(exponent - 1075). For n = 1075 - exponent this equals
        // mantissa * 5^n / 10^n.
        let mut big = Big(vec![mantissa % BASE, mantissa / BASE]);
        let mut behind_point = 0;
        if let Some(twos) = exponent.checked_sub(1075) {
            big.multiply_times(2, twos, 20);
        } else {
            behind_point = 1075 - exponent;
            big.multiply_times(5, behind_point, 8);
        }
        let mut digits = big.digits();
        let highest = i32::try_from(digits.len()).expect("at most 770 digits");
        let mut highest = highest - 1 - behind_point.cast_signed();
        highest += i32::from(round(&mut digits));
        self.decimal(&digits, highest)
    }

    /// Adds the digits. The value of the first digit is 10^`highest`.
    fn decimal(&mut self, digits: &[u8], highest: i32) -> &mut Self {
        let digits: Vec<u8> = digits.iter().map(|digit| b'0' + digit).collect();
        let behind = digits.len() - 1;
        match usize::try_from(highest) {
            Ok(before) if before < SHOWN => {
                let whole = digits.len().min(before + 1);
                self.add(&digits[..whole]);
                self.add(&b"00000"[..before + 1 - whole]);
                if digits.len() > whole {
                    self.add(".").add(&digits[whole..]);
                }
            }
            Err(_) if highest >= -4 => {
                let zeros = usize::try_from(-highest - 1).expect("it is below -1");
                self.add("0.").add(&b"000"[..zeros]).add(&digits);
            }
            Ok(_) | Err(_) => {
                self.add(&digits[..1]);
                if behind > 0 {
                    self.add(".").add(&digits[1..]);
                }
                self.add(if highest < 0 { "e-" } else { "e+" });
                let exponent = highest.unsigned_abs();
                if exponent < 10 {
                    self.add("0");
                }
                self.dec(exponent);
            }
        }
        self
    }
}

/// Rounds to the number of printed digits, ties to even, and drops trailing zeros. Returns whether
/// the rounding has added a digit in front.
fn round(digits: &mut Vec<u8>) -> bool {
    let mut gained = false;
    if digits.len() > SHOWN {
        let rest = digits.split_off(SHOWN);
        let half = rest[0] == 5 && rest[1..].iter().all(|&digit| digit == 0);
        let odd = digits[SHOWN - 1] % 2 == 1;
        if rest[0] > 5 || rest[0] == 5 && (!half || odd) {
            while digits.last() == Some(&9) {
                digits.pop();
            }
            match digits.last_mut() {
                Some(last) => *last += 1,
                None => {
                    digits.push(1);
                    gained = true;
                }
            }
        }
    }
    while digits.len() > 1 && digits.last() == Some(&0) {
        digits.pop();
    }
    gained
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn shown(bits: u64) -> String {
        let bytes = Text::default().double(bits).bytes.clone();
        String::from_utf8(bytes).expect("digits")
    }

    /// The expected texts are those of PostgreSQL's printf. For doubles, PostgreSQL's printf calls
    /// the printf of the C library.
    #[test]
    fn doubles_are_those_of_printf() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1000.0, "1000"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (999_999.5, "1e+06"),
            (123_456.5, "123456"),
            (123_457.5, "123458"),
            (1_234_567.0, "1.23457e+06"),
            (0.5, "0.5"),
            (-12.75, "-12.75"),
            (0.1, "0.1"),
            (0.000_123_456_7, "0.000123457"),
            (0.000_1, "0.0001"),
            (0.000_01, "1e-05"),
            (1e100, "1e+100"),
            (f64::MAX, "1.79769e+308"),
            (f64::MIN_POSITIVE, "2.22507e-308"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(shown(number.to_bits()), expected);
        }
        assert_eq!(shown(1), "4.94066e-324");
    }
}

//! A two's-complement integer with a scale, as exact digits.

/// Largest number that is read, in bytes: about 300 digits. Amounts have a dozen.
pub(crate) const BYTES_MAX: usize = 128;

/// Most digits behind the point, and most zeros before it, that are written out.
pub(crate) const SCALE_MAX: usize = 1_000;

/// The number `unscaled` × 10^-`scale`, with exactly `scale` digits behind the point. `unscaled` is
/// big-endian, at most [`BYTES_MAX`] bytes; none of it is zero.
pub(crate) fn digits(unscaled: &[u8], scale: usize) -> String {
    let negative = unscaled.first().is_some_and(|first| *first >= 0x80);
    let mut magnitude: Vec<u8> = unscaled.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (negated, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (negated, overflow);
        }
    }
    // least significant first
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u32;
        for byte in &mut magnitude {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 10) as u8;
            remainder = value % 10;
        }
        digits.push(b'0' + remainder as u8);
    }
    while digits.len() <= scale {
        digits.push(b'0');
    }
    let mut text = String::with_capacity(digits.len() + 2);
    if negative {
        text.push('-');
    }
    for (at, digit) in digits.iter().enumerate().rev() {
        text.push(char::from(*digit));
        if at == scale && scale > 0 {
            text.push('.');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_keep_every_digit() {
        let cases: [(&[u8], usize, &str); 8] = [
            (&[], 2, "0.00"),
            (&[0], 0, "0"),
            (&[5], 2, "0.05"),
            (&[0xff], 2, "-0.01"),
            (&[0x04, 0xce], 2, "12.30"),
            (&[0x80], 0, "-128"),
            (&[0, 0x80], 1, "12.8"),
            (&[0x7f; 16], 0, "169473963133173273960190490760135540607"),
        ];
        for (unscaled, scale, expected) in cases {
            assert_eq!(digits(unscaled, scale), expected);
        }
    }

    proptest! {
        #[test]
        fn they_are_those_of_the_number(number: i128, scale in 0..40_usize) {
            let text = digits(&number.to_be_bytes(), scale);
            let point = text.len() - scale - 1;
            prop_assert!(scale == 0 || text.as_bytes()[point] == b'.', "{}", text);
            let whole: i128 = text.replace('.', "").parse().unwrap();
            prop_assert_eq!(whole, number);
        }
    }
}

//! A two's-complement integer with a scale, as exact digits.

/// Largest number that is read, in bytes: about 300 digits. Amounts have a dozen.
pub(crate) const BYTES_MAX: usize = 128;

/// Most digits behind the point, and most zeros before it, that are written out.
pub(crate) const SCALE_MAX: usize = 1_000;

/// A number is held in pieces of 32 bits.
const LIMBS: usize = BYTES_MAX / 4;

/// Digits that one division splits off, and ten to the power of them. Each goes over the whole
/// number: digit by digit a record of long ones would hold its reader up for a third of a second.
const STEP: usize = 9;
const STEP_BASE: u64 = 1_000_000_000;

/// Most digits; a limb has fewer than ten, and the last step may bring zeros.
const DIGITS_MAX: usize = LIMBS * 10 + STEP;

/// The number `unscaled` × 10^-`scale`, with exactly `scale` digits behind the point. `unscaled` is
/// big-endian, at most [`BYTES_MAX`] bytes; none of it is zero.
pub(crate) fn digits(unscaled: &[u8], scale: usize) -> String {
    let negative = unscaled.first().is_some_and(|first| *first >= 0x80);
    let mut limbs = magnitude(unscaled, negative);
    // least significant first
    let mut digits = [b'0'; DIGITS_MAX];
    let mut count = 0;
    let mut rest = &mut limbs[LIMBS - unscaled.len().div_ceil(4)..];
    loop {
        let zeros = rest.iter().take_while(|limb| **limb == 0).count();
        rest = &mut rest[zeros..];
        if rest.is_empty() {
            break;
        }
        let mut remainder = 0;
        for limb in &mut *rest {
            let value = (remainder << 32) | u64::from(*limb);
            *limb = (value / STEP_BASE) as u32;
            remainder = value % STEP_BASE;
        }
        for digit in &mut digits[count..count + STEP] {
            *digit = b'0' + (remainder % 10) as u8;
            remainder /= 10;
        }
        count += STEP;
    }
    let significant = digits[..count].iter().rposition(|digit| *digit != b'0');
    let last = significant.unwrap_or(0).max(scale);
    let mut text = String::with_capacity(last + 3);
    if negative {
        text.push('-');
    }
    for at in (0..=last).rev() {
        text.push(digits.get(at).map_or('0', |digit| char::from(*digit)));
        if at == scale && scale > 0 {
            text.push('.');
        }
    }
    text
}

/// The most significant limb first.
fn magnitude(unscaled: &[u8], negative: bool) -> [u32; LIMBS] {
    let sign = if negative { 0xff } else { 0 };
    let mut limbs = [u32::from_be_bytes([sign; 4]); LIMBS];
    for (limb, chunk) in limbs.iter_mut().rev().zip(unscaled.rchunks(4)) {
        let mut bytes = [sign; 4];
        bytes[4 - chunk.len()..].copy_from_slice(chunk);
        *limb = u32::from_be_bytes(bytes);
    }
    if negative {
        let mut carry = true;
        for limb in limbs.iter_mut().rev() {
            let (negated, overflow) = (!*limb).overflowing_add(u32::from(carry));
            (*limb, carry) = (negated, overflow);
        }
    }
    limbs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_keep_every_digit() {
        let cases: [(&[u8], usize, &str); 10] = [
            (&[], 2, "0.00"),
            (&[0], 0, "0"),
            (&[5], 2, "0.05"),
            (&[0xff], 2, "-0.01"),
            (&[0x04, 0xce], 2, "12.30"),
            (&[0x80], 0, "-128"),
            (&[0, 0x80], 1, "12.8"),
            (&[0x80, 0, 0, 0, 0], 0, "-549755813888"),
            (&[0xff; 128], 0, "-1"),
            (&[0x7f; 16], 0, "169473963133173273960190490760135540607"),
        ];
        for (unscaled, scale, expected) in cases {
            assert_eq!(digits(unscaled, scale), expected);
        }
    }

    /// By long division, digit by digit.
    fn slowly(mut magnitude: Vec<u8>) -> String {
        let mut text = String::new();
        while magnitude.iter().any(|byte| *byte != 0) {
            let mut remainder = 0_u32;
            for byte in &mut magnitude {
                let value = remainder * 256 + u32::from(*byte);
                *byte = (value / 10) as u8;
                remainder = value % 10;
            }
            text.insert(0, char::from(b'0' + remainder as u8));
        }
        text
    }

    proptest! {
        #[test]
        fn numbers_of_every_length_keep_every_digit(
            magnitude in prop::collection::vec(any::<u8>(), 0..BYTES_MAX),
        ) {
            let positive = [&[0], &*magnitude].concat();
            let expected = slowly(magnitude);
            let expected = if expected.is_empty() { "0" } else { &*expected };
            prop_assert_eq!(digits(&positive, 0), expected);
            // -x = !x + 1, so that !x = -(x + 1)
            let inverted: Vec<u8> = positive.iter().map(|byte| !byte).collect();
            let mut next = positive;
            for byte in next.iter_mut().rev() {
                let (sum, carry) = byte.overflowing_add(1);
                *byte = sum;
                if !carry {
                    break;
                }
            }
            prop_assert_eq!(digits(&inverted, 0), format!("-{}", slowly(next)));
        }

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

//! Amounts of money: whole minor units and decimal text.
//!
//! Decides how many digits a currency has (ISO 4217). A code that is not on the list is refused, as
//! a guess may be wrong by a factor of a hundred. Nothing is rounded.

/// Digits after the point, 0 to 9: by currency code or as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digits(u32);

const NONE: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
const TWO: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL \
    BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB \
    EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW \
    KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD \
    NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE \
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST \
    XCD XCG YER ZAR ZMW ZWG";
const THREE: &str = "BHD IQD JOD KWD LYD OMR TND";
const FOUR: &str = "CLF UYW";

impl Digits {
    /// Of a currency, by its code in capitals; `None` for one that is not known.
    pub(crate) fn of(currency: &str) -> Option<Self> {
        let is_code = currency.len() == 3;
        let lists = [(NONE, 0), (TWO, 2), (THREE, 3), (FOUR, 4)];
        let found = lists
            .into_iter()
            .find(|(list, _)| is_code && list.split(' ').any(|code| code == currency));
        found.map(|(_, digits)| Self(digits))
    }

    /// A number of one's own, for what no list has; at most 9.
    pub(crate) fn new(digits: i64) -> Option<Self> {
        let digits = u32::try_from(digits).ok()?;
        (digits <= 9).then_some(Self(digits))
    }

    /// 1050 minor units of two digits are `10.50`.
    pub(crate) fn decimal(self, minor: i128) -> String {
        let sign = if minor < 0 { "-" } else { "" };
        let unit = 10_u128.pow(self.0);
        let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
        match self.0 {
            0 => format!("{sign}{whole}"),
            digits => format!("{sign}{whole}.{rest:0>width$}", width = digits as usize),
        }
    }

    /// `10.5` of two digits are 1050 minor units. `None` for what is no decimal number, has more
    /// digits after the point than the currency (zeros aside), or is too large.
    pub(crate) fn minor(self, decimal: &str) -> Option<i128> {
        let (negative, number) = match decimal.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, decimal),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let missing = (self.0 as usize).checked_sub(fraction.len())?;
        let digits = format!("{whole}{fraction}{}", "0".repeat(missing));
        let minor: i128 = digits.parse().ok()?;
        Some(if negative { -minor } else { minor })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn currencies_have_their_digits() {
        for (currency, digits) in [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(Digits::of(currency), Some(Digits(digits)), "{currency}");
        }
        for unknown in ["", "eur", "XXX", "EURO", "R E", "UR "] {
            assert_eq!(Digits::of(unknown), None, "{unknown}");
        }
        let all: Vec<&str> = [NONE, TWO, THREE, FOUR]
            .iter()
            .flat_map(|l| l.split(' '))
            .collect();
        assert!(all.iter().all(|code| code.len() == 3), "{all:?}");
    }

    #[test]
    fn nothing_is_rounded() {
        let two = Digits(2);
        assert_eq!(two.decimal(1_050), "10.50");
        assert_eq!(two.decimal(-5), "-0.05");
        assert_eq!(Digits(0).decimal(1_050), "1050");
        for (text, minor) in [
            ("10.5", 1_050),
            ("10", 1_000),
            ("-0.05", -5),
            ("10.5000", 1_050),
        ] {
            assert_eq!(two.minor(text), Some(minor), "{text}");
        }
        for bad in [
            "10.505",
            "",
            ".",
            "1.",
            ".5",
            "+1",
            "1e3",
            "1,00",
            "--1",
            &"9".repeat(40),
        ] {
            assert_eq!(two.minor(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_comes_back(minor in any::<i64>(), digits in 0..=9_i64) {
            let digits = Digits::new(digits).unwrap();
            prop_assert_eq!(digits.minor(&digits.decimal(minor.into())), Some(minor.into()));
        }
    }
}

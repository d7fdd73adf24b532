//! Inputs as text: a head of lines, an empty line, and a body of any bytes.

/// The lines before the first empty line, and what follows it. Lines that are not UTF-8 are read
/// with replacement characters.
pub(crate) fn head_and_body(input: &[u8]) -> (Vec<String>, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, &[][..]),
    };
    let lines = head.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
    (lines.collect(), body)
}

//! Masks the values that may differ between two servers. These are process ids and keys, LSNs, the
//! system identifier, times, the minor version, and locations in the C source.

/// The messages of an answer as text. Values that may differ between two servers are masked.
pub(crate) fn masked(answer: &[u8]) -> Vec<String> {
    frames(answer)
        .into_iter()
        .map(|(tag, body)| message(tag, body))
        .collect()
}

/// The types and bodies of messages. Two answers are not messages and get type 0: the answer to an
/// encryption request, and an error in the format before protocol 3.0.
pub(crate) fn frames(mut answer: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    if answer.first().is_some_and(|byte| b"SN".contains(byte)) && answer.get(1) != Some(&0) {
        frames.push((0, answer[..1].to_vec()));
        answer = &answer[1..];
    }
    while !answer.is_empty() {
        let len = match answer {
            [_, a @ 0..4, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1,
            _ => usize::MAX,
        };
        if len > answer.len() {
            frames.push((0, answer.to_vec()));
            break;
        }
        frames.push((answer[0], answer[5..len].to_vec()));
        answer = &answer[len..];
    }
    frames
}

/// The values of a DataRow.
pub(crate) fn values(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut values = Vec::new();
    let mut rest = &body[2..];
    while let Some((len, after)) = rest.split_first_chunk() {
        match usize::try_from(i32::from_be_bytes(*len)) {
            Ok(len) => {
                values.push(Some(after[..len].to_vec()));
                rest = &after[len..];
            }
            Err(_) => {
                values.push(None);
                rest = after;
            }
        }
    }
    values
}

fn message(tag: u8, mut body: Vec<u8>) -> String {
    match tag {
        b'K' => body.fill(0),
        b'S' if body.starts_with(b"server_version\0") => {
            // The major version is kept.
            let version = body.splitn(2, |byte| *byte == 0).last().unwrap_or_default();
            let rest = version.iter().position(|byte| !byte.is_ascii_digit());
            let rest = rest.map_or(0, |at| version.len() - at);
            body.truncate(body.len() - rest);
        }
        b'D' => {
            let values = values(&body).into_iter().map(|value| match value {
                Some(value) => format!("'{}'", masked_text(&text(&value))),
                None => "NULL".into(),
            });
            return format!("D {}", values.collect::<Vec<_>>().join(", "));
        }
        b'E' | b'N' => {
            let fields = body.split(|byte| *byte == 0);
            let fields = fields.filter(|field| !field.first().is_some_and(|c| b"FLR".contains(c)));
            let fields: Vec<String> = fields.map(|field| masked_text(&text(field))).collect();
            return format!("{} {}", char::from(tag), fields.join("|"));
        }
        b'd' if body.first() == Some(&b'k') => body[1..17].fill(0),
        _ => {}
    }
    format!("{} {}", char::from(tag), text(&body))
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Masks positions, process ids and system identifiers in a text.
fn masked_text(text: &str) -> String {
    let words = text.split_inclusive([' ', ',', '(', ')', '"']);
    let mut after_pid = false;
    let masked = words.map(|word| {
        let bare = word.trim_end_matches([' ', ',', '(', ')', '"', '.']);
        let is_hex = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c))
        };
        let position = bare
            .split_once('/')
            .is_some_and(|(high, low)| is_hex(high) && is_hex(low));
        let digits = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit());
        let replaced = if position && bare != "0/0" {
            Some("LSN")
        } else if digits && (after_pid || bare.len() >= 18) {
            Some("NUMBER")
        } else {
            None
        };
        after_pid = bare == "PID";
        match replaced {
            Some(name) => word.replace(bare, name),
            None => word.to_string(),
        }
    });
    masked.collect()
}

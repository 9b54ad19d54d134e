//! Names of client encodings. Mirrors pg_valid_client_encoding and the tables of encnames.c.

use alloc::string::String;

/// Each encoding with its other names, in lower case and without punctuation.
const ENCODINGS: [(&str, &[&str]); 42] = [
    ("SQL_ASCII", &[]),
    ("EUC_JP", &[]),
    ("EUC_CN", &[]),
    ("EUC_KR", &[]),
    ("EUC_TW", &[]),
    ("EUC_JIS_2004", &[]),
    ("UTF8", &["unicode"]),
    ("MULE_INTERNAL", &[]),
    ("LATIN1", &["iso88591"]),
    ("LATIN2", &["iso88592"]),
    ("LATIN3", &["iso88593"]),
    ("LATIN4", &["iso88594"]),
    ("LATIN5", &["iso88599"]),
    ("LATIN6", &["iso885910"]),
    ("LATIN7", &["iso885913"]),
    ("LATIN8", &["iso885914"]),
    ("LATIN9", &["iso885915"]),
    ("LATIN10", &["iso885916"]),
    ("WIN1256", &["windows1256"]),
    (
        "WIN1258",
        &["abc", "tcvn", "tcvn5712", "vscii", "windows1258"],
    ),
    ("WIN866", &["alt", "windows866"]),
    ("WIN874", &["windows874"]),
    ("KOI8R", &["koi8"]),
    ("WIN1251", &["win", "windows1251"]),
    ("WIN1252", &["windows1252"]),
    ("ISO_8859_5", &[]),
    ("ISO_8859_6", &[]),
    ("ISO_8859_7", &[]),
    ("ISO_8859_8", &[]),
    ("WIN1250", &["windows1250"]),
    ("WIN1253", &["windows1253"]),
    ("WIN1254", &["windows1254"]),
    ("WIN1255", &["windows1255"]),
    ("WIN1257", &["windows1257"]),
    ("KOI8U", &[]),
    ("SJIS", &["mskanji", "shiftjis", "win932", "windows932"]),
    ("BIG5", &["win950", "windows950"]),
    ("GBK", &["win936", "windows936"]),
    ("UHC", &["win949", "windows949"]),
    ("GB18030", &[]),
    ("JOHAB", &[]),
    ("SHIFT_JIS_2004", &["shiftjis2004"]),
];

/// `clean_encoding_name`
fn clean(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// The canonical name of an encoding.
pub(super) fn client_encoding(name: &str) -> Option<&'static str> {
    let wanted = clean(name);
    let is = |(own, others): &&(&'static str, &[&str])| {
        clean(own) == wanted || others.contains(&wanted.as_str())
    };
    ENCODINGS.iter().find(is).map(|(own, _)| *own)
}

//! Parses a page, and checks that it is well-formed.

use html5gum::{DefaultEmitter, HtmlString, Token, Tokenizer};
use std::collections::BTreeSet;

/// What a page contains.
#[derive(Default)]
pub(crate) struct Document {
    /// The names of all elements.
    pub(crate) tags: BTreeSet<String>,
    pub(crate) ids: BTreeSet<String>,
    /// Element, name and value.
    pub(crate) attributes: Vec<(String, String, String)>,
    /// The text between tags, with entities resolved.
    pub(crate) text: String,
}

/// Elements without an end tag.
const VOID: [&str; 4] = ["meta", "link", "input", "br"];

impl Document {
    /// # Panics
    /// If there is a syntax error, an end tag without its start tag, or an id that is used
    /// twice.
    pub(crate) fn parse(html: &str) -> Self {
        let mut document = Self::default();
        let mut open: Vec<String> = Vec::new();
        let mut emitter = DefaultEmitter::default();
        // Scripts and styles contain no tags.
        emitter.naively_switch_states(true);
        for token in Tokenizer::new_with_emitter(html, emitter) {
            let Ok(token) = token;
            match token {
                Token::StartTag(tag) => {
                    let name = text(&tag.name);
                    for (attribute, value) in &tag.attributes {
                        let (attribute, value) = (text(attribute), text(value));
                        if attribute == "id" {
                            assert!(document.ids.insert(value.clone()), "two ids {value}");
                        }
                        document.attributes.push((name.clone(), attribute, value));
                    }
                    document.tags.insert(name.clone());
                    if !tag.self_closing && !VOID.contains(&name.as_str()) {
                        open.push(name);
                    }
                }
                Token::EndTag(tag) => {
                    let name = text(&tag.name);
                    assert_eq!(open.pop(), Some(name), "the end tag of another element");
                }
                Token::String(string) => document.text += &text(&string),
                Token::Error(error) => panic!("{error:?}"),
                Token::Comment(_) | Token::Doctype(_) => {}
            }
        }
        assert!(open.is_empty(), "open elements {open:?}");
        document
    }
}

fn text(string: &HtmlString) -> String {
    String::from_utf8(string.to_vec()).expect("a page is UTF-8")
}

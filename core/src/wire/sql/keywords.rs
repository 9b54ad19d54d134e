//! The first words of PostgreSQL's statements. Mirrors stmt of gram.y.

#[rustfmt::skip]
const STATEMENTS: [&str; 53] = [
    "abort", "alter", "analyse", "analyze", "begin", "call", "checkpoint", "close", "cluster", "comment", "commit",
    "copy", "create", "deallocate", "declare", "delete", "discard", "do", "drop", "end", "execute", "explain", "fetch",
    "grant", "import", "insert", "listen", "load", "lock", "merge", "move", "notify", "prepare", "reassign", "refresh",
    "reindex", "release", "reset", "revoke", "rollback", "savepoint", "security", "select", "set", "show", "start",
    "table", "truncate", "unlisten", "update", "vacuum", "values", "with",
];

/// Does a PostgreSQL statement begin with `word`, which is in lower case?
pub(super) fn begins_statement(word: &str) -> bool {
    STATEMENTS.contains(&word)
}

/// Does one of walsim's own statements begin with this word?
pub(super) fn is_ours(word: &str) -> bool {
    matches!(word, "put" | "get")
}

//! Whether a text is of a later version of its form than this program reads (FORMAT.md §14).
//!
//! A reader that meets such a text says "newer", never "damaged" or "forged": it cannot tell. Not here: the forms
//! themselves, each of which asks this before it calls a line malformed. Binary forms name their version in a byte
//! of their own.
//!
//! Invariant: what is spelled as no version of the form would spell it is not called newer.

/// Whether `line` is the first line of a later version of the form whose first line is `tag`, as
/// `piperoll-commit/v2` is of `piperoll-commit/v1`.
pub fn is_newer(line: &str, tag: &str) -> bool {
    let form = tag.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = |text: &str| crate::text::decimal(text.strip_prefix(form)?);
    // A number too large for 64 bits is no version that anybody will write.
    number(line).zip(number(tag)).is_some_and(|(theirs, ours)| theirs > ours)
}

/// Whether a line begins with a word that no line of its form begins with: a part that a later version added.
pub fn has_newer_word(line: &str, words: &[&str]) -> bool {
    let word = line.split(' ').next().unwrap_or_default();
    is_word(word) && !words.contains(&word)
}

/// Whether a text could be a word of some form: small letters, and digits and dashes behind the first.
pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_are_told_from_other_forms_and_other_spellings() {
        for newer in ["piperoll-commit/v2", "piperoll-commit/v10"] {
            assert!(is_newer(newer, "piperoll-commit/v1"), "{newer}");
        }
        assert!(is_newer("c2sp.org/tlog-proof@v2", "c2sp.org/tlog-proof@v1"));
        for other in
            ["piperoll-commit/v1", "piperoll-commit/v0", "piperoll-commit/v02", "piperoll-commit/v", "", "x/v2"]
        {
            assert!(!is_newer(other, "piperoll-commit/v1"), "{other}");
        }
        assert!(has_newer_word("frontier abc", &["add", "head"]) && has_newer_word("frontier", &["add"]));
        for ours in ["add x", "add", "", " add", "Frontier x", "=x"] {
            assert!(!has_newer_word(ours, &["add", "head"]), "{ours}");
        }
    }
}

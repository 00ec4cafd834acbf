//! Patterns with a star, as mappings and rules write them.
//!
//! A pattern is a text in which every `*` stands for any run of characters, none included; there is no escape.

/// Whether the whole of `value` fits; each star is tried leftmost first, so work is bounded by the product of the lengths
/// and in practice by their sum.
pub fn fits(pattern: &str, value: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == value };
    let Some(mut value) = value.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return value.ends_with(part);
        }
        match value.find(part) {
            Some(at) => value = &value[at + part.len()..],
            None => return false,
        }
    }
    true
}

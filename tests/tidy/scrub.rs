//! Blanks what is not code in a Rust file, so that rules can search text: comments, literals, test items.
//!
//! Not a lexer of all of Rust: it knows nested comments, strings with escapes, raw strings, characters against
//! lifetimes, and that `r#fn` is a name. Macros are read like other code.
//!
//! Invariants: (1) a blanked text has the same characters per line as the original, so places stay true;
//! (2) line ends are kept, also inside strings.

use std::ops::Range;

/// A function with a body: where its `fn` stands and how many lines it takes to the closing brace.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// Whether `c` may stand in an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and literals replaced by spaces.
pub fn scrub(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        if let Some(end) = blank_end(&chars, at) {
            blank(&mut out, at..end);
            at = end;
        } else if is_word(chars[at]) {
            // A prefix such as `b` stays; the quote behind it is seen in the next round.
            at = word_end(&chars, at);
        } else {
            at += 1;
        }
    }
    out.into_iter().collect()
}

/// Scrubbed text with every item under `#[cfg(test)]`, `#[cfg(all(test, …))]` or a test attribute blanked.
pub fn without_tests(code: &str) -> String {
    let mut chars: Vec<char> = code.chars().collect();
    for item in test_items(&chars) {
        blank(&mut chars, item);
    }
    chars.into_iter().collect()
}

/// Names of modules in other files that are declared for tests only.
pub fn test_modules(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    test_items(&chars)
        .into_iter()
        .filter_map(|item| {
            let text: String = chars[item].iter().collect();
            let (head, name) = text.trim().strip_suffix(';')?.rsplit_once("mod ")?;
            let declared = head.trim_end().ends_with(']') || head.ends_with("pub ") || head.ends_with(") ");
            declared.then(|| name.trim().to_owned())
        })
        .collect()
}

/// All functions with a body in scrubbed text.
pub fn functions(code: &str) -> Vec<Function> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = if is_word(chars[at]) { word_end(&chars, at) } else { at + 1 };
        if chars[at..end] == ['f', 'n'] {
            let name = skip_space(&chars, end);
            if let (Some(body), true) = (body(&chars, name), chars.get(name).copied().is_some_and(is_word)) {
                found.push(Function {
                    name: chars[name..word_end(&chars, name)].iter().collect(),
                    line,
                    lines: 1 + chars[at..body.end].iter().filter(|c| **c == '\n').count(),
                });
            }
        }
        line += usize::from(chars[at] == '\n');
        at = end;
    }
    found
}

/// Where the comment or literal that begins at `at` ends, if one does.
fn blank_end(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => Some(find(chars, at, &['\n'])),
        ('/', Some('*')) => Some(comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at)),
        ('\'', Some('\\')) => Some((find(chars, at + 3, &['\'']) + 1).min(chars.len())),
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        ('r' | 'b' | 'c', _) => raw_end(chars, at),
        _ => None,
    }
}

fn comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"…"`, `r#"…"#`, `br…` and `cr…`; `None` for names such as `r#fn` or `bread`.
fn raw_end(chars: &[char], start: usize) -> Option<usize> {
    let word = word_end(chars, start);
    if !matches!(chars[start..word], ['r'] | ['b' | 'c', 'r']) {
        return None;
    }
    let hashes = chars[word..].iter().take_while(|c| **c == '#').count();
    if chars.get(word + hashes) != Some(&'"') {
        return None;
    }
    let mut close = vec!['"'];
    close.resize(1 + hashes, '#');
    Some((find(chars, word + hashes + 1, &close) + close.len()).min(chars.len()))
}

/// Ranges of test items in scrubbed text, attributes included.
fn test_items(chars: &[char]) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] != '#' {
            at += 1;
            continue;
        }
        let inner = chars.get(at + 1) == Some(&'!');
        let open = at + 1 + usize::from(inner);
        if chars.get(open) != Some(&'[') {
            at += 1;
            continue;
        }
        let close = close_of(chars, open);
        let text: String = chars[open + 1..close].iter().filter(|c| !c.is_whitespace()).collect();
        let end = match (is_test(&text), inner) {
            (false, _) => close,
            (true, true) => return std::iter::once(0..chars.len()).collect(),
            (true, false) => item_end(chars, close + 1),
        };
        if is_test(&text) {
            items.push(at..end.min(chars.len()));
        }
        at = end.max(at + 1);
    }
    items
}

fn is_test(attribute: &str) -> bool {
    matches!(attribute, "cfg(test)" | "test")
        || attribute.starts_with("cfg(all(test,")
        || attribute.starts_with("tokio::test")
}

/// Where the item, field, arm or statement after an attribute ends.
fn item_end(chars: &[char], start: usize) -> usize {
    let mut at = skip_space(chars, start);
    while chars.get(at) == Some(&'#') && chars.get(at + 1) == Some(&'[') {
        at = skip_space(chars, close_of(chars, at + 1) + 1);
    }
    let head = head_words(chars, at);
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    // `use a::{b};` and `const A: B = B {};` go on after a brace; a field or an arm ends at a comma.
    let to_semicolon = match head.as_slice() {
        ["const", second, ..] => !matches!(*second, "fn" | "unsafe" | "async" | "extern"),
        [first, ..] => matches!(*first, "use" | "static" | "let" | "type"),
        [] => false,
    };
    let item = ["mod", "fn", "impl", "struct", "enum", "trait", "async", "unsafe", "const", "extern", "macro_rules"];
    let to_comma = !to_semicolon && !head.first().is_some_and(|first| item.contains(first));
    while at < chars.len() {
        match chars[at] {
            '{' if !to_semicolon => return close_of(chars, at) + 1,
            '(' | '[' | '{' => at = close_of(chars, at),
            ';' => return at + 1,
            ',' if to_comma => return at + 1,
            ')' | ']' | '}' => return at,
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

/// The first two words of an item behind its visibility.
fn head_words(chars: &[char], mut at: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < 2 {
        let end = word_end(chars, at);
        let word: String = chars[at..end].iter().collect();
        at = skip_space(chars, end);
        if word == "pub" {
            if chars.get(at) == Some(&'(') {
                at = skip_space(chars, close_of(chars, at) + 1);
            }
        } else if word.is_empty() {
            break;
        } else {
            words.push(word);
        }
    }
    words
}

/// The body of the function whose name begins at `name`; `None` for a declaration.
fn body(chars: &[char], name: usize) -> Option<Range<usize>> {
    let mut at = name;
    while at < chars.len() {
        match chars[at] {
            '(' | '[' => at = close_of(chars, at),
            '{' => return Some(at..close_of(chars, at) + 1).filter(|body| body.end <= chars.len()),
            ';' | ')' | ']' | '}' => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The bracket that closes the one at `open`, or the last character where none does.
fn close_of(chars: &[char], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, c) in chars.iter().enumerate().skip(open) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len().saturating_sub(1)
}

fn blank(chars: &mut [char], range: Range<usize>) {
    for c in &mut chars[range] {
        if *c != '\n' {
            *c = ' ';
        }
    }
}

/// The first place at or after `from` where `needle` stands, or the end.
fn find(chars: &[char], from: usize, needle: &[char]) -> usize {
    let from = from.min(chars.len());
    chars[from..].windows(needle.len()).position(|w| w == needle).map_or(chars.len(), |p| from + p)
}

fn word_end(chars: &[char], at: usize) -> usize {
    at + chars.iter().skip(at).take_while(|c| is_word(**c)).count()
}

fn skip_space(chars: &[char], at: usize) -> usize {
    at + chars.iter().skip(at).take_while(|c| c.is_whitespace()).count()
}

#[cfg(test)]
mod own {
    //! Tests of the blanking and of the counter.
    use super::*;

    /// Scrubbed text with runs of space folded.
    fn folded(source: &str) -> String {
        scrub(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        let cases = [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("//! doc\n/// more\nfn x() {}", "fn x() {}"),
            (r#"f("a \" // b", c)"#, "f( , c)"),
            (r#"f("a \\", c)"#, "f( , c)"),
            ("f(\"/* \", c) // */", "f( , c)"),
            (r###"f(r#"x " y"#, c)"###, "f( , c)"),
            (r##"f(br"x\", c, cr#"z"#)"##, "f( , c, )"),
            (r#"f(b"x", b'y', c"z")"#, "f(b , b , c )"),
            ("let r#fn = r; bread(crab)", "let r#fn = r; bread(crab)"),
            ("fn x<'a>(y: &'a str) -> &'static str {'{'}", "fn x<'a>(y: &'a str) -> &'static str { }"),
            (r"['\'', '\\', '\n', '\u{7d}', '}', 'ä', '/'] // x", "[ , , , , , , ]"),
            ("'outer: loop { break 'outer; }", "'outer: loop { break 'outer; }"),
            ("a \"open", "a"),
            ("a /* open", "a"),
            ("a '\\", "a"),
        ];
        for (source, wanted) in cases {
            assert_eq!(folded(source), wanted, "{source}");
        }
    }

    #[test]
    fn lines_and_columns_stay() {
        let source = "a \"x\ny\" /* ü\n */ b\n";
        let code = scrub(source);
        let widths = |text: &str| text.lines().map(|l| l.chars().count()).collect::<Vec<_>>();
        assert_eq!(widths(&code), widths(source));
        assert!(code.ends_with("b\n"), "{code:?}");
    }

    #[test]
    fn test_items_go_and_their_neighbours_stay() {
        let cases = [
            ("fn a() {} #[cfg(test)] mod tests { fn b() {} } fn c() {}", "fn a() {} fn c() {}"),
            ("#[cfg(test)]\n#[allow(x)]\npub(crate) fn b<A, B>(a: A) -> [u8; 2] { [0; 2] } c", "c"),
            ("#[cfg(test)] use a::{b, c}; d", "d"),
            ("#[cfg(test)] const A: B = B { c: 1 }; d", "d"),
            ("#[cfg(test)] const fn a() {} d", "d"),
            ("struct S { a: u8, #[cfg(test)] pub b: Vec<(u8, u8)>, c: u8 }", "struct S { a: u8, c: u8 }"),
            ("struct S { #[cfg(test)] b: u8 }", "struct S { }"),
            ("#[cfg(test)] mod tests; d", "d"),
            ("#[cfg(all(test, unix))] struct A(u8); d", "d"),
            ("#[cfg(any(test, unix))] fn a() {}", "#[cfg(any(test, unix))] fn a() {}"),
            ("#[cfg(not(test))] fn a() {}", "#[cfg(not(test))] fn a() {}"),
            ("#[derive(A)] struct B; #[test] fn c() {} d", "#[derive(A)] struct B; d"),
            ("#![cfg(test)] fn a() {}", ""),
            ("#![forbid(x)] fn a() {}", "#![forbid(x)] fn a() {}"),
        ];
        for (source, wanted) in cases {
            let left = without_tests(&scrub(source));
            assert_eq!(left.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "{source}");
        }
    }

    #[test]
    fn modules_for_tests_are_named() {
        let code =
            scrub("#[cfg(test)]\nmod tests;\nmod a;\n#[cfg(test)] pub(crate) mod faults;\n#[cfg(test)] mod b {}");
        assert_eq!(test_modules(&code), ["tests", "faults"]);
    }

    #[test]
    fn functions_are_counted_from_their_word_to_their_brace() {
        let source = "/// doc {\nfn a(\n    f: fn(u8) -> u8,\n) -> [u8; 2] {\n    // }\n    let s = \"}\";\n}\n\
                      trait T { fn b(&self); fn c() { } }\n\npub async fn d() where u8: Copy {\n fn e() {\n}\n}\n";
        let counted: Vec<(String, usize, usize)> =
            functions(&scrub(source)).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        let wanted = [("a", 2, 6), ("c", 8, 1), ("d", 10, 4), ("e", 11, 2)];
        assert_eq!(counted, wanted.map(|(n, line, lines)| (n.to_owned(), line, lines)));
    }
}

//! Reads the phrase syntax into a tree.

use std::collections::BTreeMap;

use super::builtin::{self, Reading};
use super::spoken;
use super::{GrammarError, ListItem, MAX_PHRASE_BYTES};

/// The deepest nesting of brackets.
const MAX_DEPTH: usize = 12;

/// A phrase, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Word(String),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Optional(Box<Node>),
    Slot {
        name: String,
        body: Box<Node>,
    },
    /// Ends a slot's branch with the value it stands for.
    Value(Box<Node>, Value),
    /// So many spoken digits, `double` and `triple` counted.
    Digits {
        min: usize,
        max: usize,
    },
}

/// How a slot's value comes about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Literal(String),
    Read(Reading),
}

impl Node {
    pub(super) fn may_be_empty(&self) -> bool {
        match self {
            Node::Word(_) => false,
            Node::Sequence(parts) => parts.iter().all(Node::may_be_empty),
            Node::Either(parts) => parts.iter().any(Node::may_be_empty),
            Node::Optional(_) => true,
            Node::Slot { body, .. } | Node::Value(body, _) => body.may_be_empty(),
            Node::Digits { min, .. } => *min == 0,
        }
    }
}

/// A grammar's own lists, parsed: name to what may stand in the slot.
pub(super) type Lists = BTreeMap<String, Node>;

/// What is wrong with a phrase, before its rule is known.
pub(super) enum Fault {
    Syntax { at: usize, what: String },
    UnknownSlot { slot: String, known: String },
}

impl Fault {
    pub(super) fn in_rule(self, rule: &str, phrase: &str) -> GrammarError {
        let (rule, phrase) = (rule.to_owned(), phrase.to_owned());
        match self {
            Fault::Syntax { at, what } => GrammarError::Syntax { rule, phrase, at, what },
            Fault::UnknownSlot { slot, known } => GrammarError::UnknownSlot { rule, phrase, slot, known },
        }
    }
}

/// Parses every list's entries.
pub(super) fn parse_lists(lists: &BTreeMap<String, Vec<ListItem>>) -> Result<Lists, GrammarError> {
    let none = Lists::new();
    let mut parsed = Lists::new();
    for (name, items) in lists {
        let mut branches = Vec::new();
        for item in items {
            let as_written = [item.value.clone()];
            let says = if item.says.is_empty() { &as_written[..] } else { &item.says[..] };
            for text in says {
                let node = parse(text, &none).map_err(|fault| fault.in_rule(name, text))?;
                if node.may_be_empty() {
                    return Err(GrammarError::EmptyList { list: name.clone() });
                }
                branches.push(Node::Value(Box::new(node), Value::Literal(item.value.clone())));
            }
        }
        if branches.is_empty() {
            return Err(GrammarError::EmptyList { list: name.clone() });
        }
        parsed.insert(name.clone(), Node::Either(branches));
    }
    Ok(parsed)
}

/// Parses one phrase.
pub(super) fn parse(text: &str, lists: &Lists) -> Result<Node, Fault> {
    if text.len() > MAX_PHRASE_BYTES {
        return Err(Fault::Syntax { at: MAX_PHRASE_BYTES, what: format!("longer than {MAX_PHRASE_BYTES} bytes") });
    }
    let mut parser = Parser { text, at: 0, lists, depth: 0 };
    let node = parser.alternatives()?;
    match parser.peek() {
        None => Ok(node),
        Some(found) => Err(parser.fault(format!("`{found}` closes nothing"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    lists: &'a Lists,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault::Syntax { at: self.at, what: what.into() }
    }

    fn alternatives(&mut self) -> Result<Node, Fault> {
        let mut branches = vec![self.sequence()?];
        while self.peek() == Some('|') {
            if self.depth == 0 {
                return Err(self.fault("`|` stands only inside ( ) or [ ]"));
            }
            self.bump();
            branches.push(self.sequence()?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Either(branches) })
    }

    fn sequence(&mut self) -> Result<Node, Fault> {
        let mut parts = Vec::new();
        loop {
            match self.peek() {
                None | Some(')' | ']' | '|') => break,
                Some('}') => return Err(self.fault("`}` closes nothing")),
                Some('(') => parts.push(self.group(')')?),
                Some('[') => parts.push(Node::Optional(Box::new(self.group(']')?))),
                Some('{') => parts.push(self.slot()?),
                Some(_) => self.words(&mut parts)?,
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::Sequence(parts) })
    }

    fn group(&mut self, close: char) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault(format!("nested deeper than {MAX_DEPTH}")));
        }
        let open_at = self.at;
        self.bump();
        let node = self.alternatives()?;
        if self.peek() != Some(close) {
            return Err(Fault::Syntax { at: open_at, what: format!("this is never closed by `{close}`") });
        }
        self.bump();
        self.depth -= 1;
        Ok(node)
    }

    fn slot(&mut self) -> Result<Node, Fault> {
        let open_at = self.at;
        self.bump();
        let Some(len) = self.rest().find('}') else {
            return Err(Fault::Syntax { at: open_at, what: "this is never closed by `}`".into() });
        };
        let inside = self.rest().get(..len).unwrap_or("").trim().to_owned();
        self.at += len + 1;
        let (name, kind) = match inside.split_once(':') {
            Some((name, kind)) => (name.trim(), kind.trim()),
            None => (inside.split_whitespace().next().unwrap_or(""), inside.as_str()),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Fault::Syntax { at: open_at, what: "a slot's name has letters, digits and _ only".into() });
        }
        let (kind, range) =
            kind.split_once(char::is_whitespace).map_or((kind, ""), |(kind, range)| (kind, range.trim()));
        let body = match self.lists.get(kind) {
            Some(list) if range.is_empty() => list.clone(),
            Some(_) => return Err(Fault::Syntax { at: open_at, what: format!("list `{kind}` takes no range") }),
            None => match builtin::slot(kind, range) {
                None => {
                    let own = self.lists.keys().map(String::as_str);
                    let known = builtin::NAMES.iter().copied().chain(own).collect::<Vec<_>>().join(", ");
                    return Err(Fault::UnknownSlot { slot: kind.to_owned(), known });
                }
                Some(Err(what)) => return Err(Fault::Syntax { at: open_at, what }),
                Some(Ok(node)) => node,
            },
        };
        Ok(Node::Slot { name: name.to_owned(), body: Box::new(body) })
    }

    fn words(&mut self, parts: &mut Vec<Node>) -> Result<(), Fault> {
        let rest = self.rest();
        let len = rest.find(['(', ')', '[', ']', '{', '}', '|']).unwrap_or(rest.len());
        let text = rest.get(..len).unwrap_or("").to_owned();
        if let Some((at, odd)) = text.char_indices().find(|(_, c)| !spoken::is_known(*c)) {
            return Err(Fault::Syntax {
                at: self.at + at,
                what: format!("`{odd}` can't be spoken: write it as words"),
            });
        }
        parts.extend(spoken::words(&text).into_iter().map(Node::Word));
        self.at += len;
        Ok(())
    }
}

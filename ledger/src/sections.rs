//! A set of the sections that can be erased: all but the skeleton.
//!
//! Not here: what a section holds ([`crate::field`]). Invariant: the skeleton is never in it.

use crate::field::Section;
use std::fmt;
use std::ops::BitOr;

/// Some of the sections that enter a leaf as a commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sections(u8);

impl Sections {
    /// Every section but the skeleton.
    pub const ALL: Self = Self(0b11_1110);

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a section is in it.
    pub const fn contains(self, section: Section) -> bool {
        self.0 >> (section as u8) & 1 == 1
    }

    /// Whether all of the other's are in it.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Those that are not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The sections, ascending.
    pub fn iter(self) -> impl Iterator<Item = Section> {
        Section::COMMITTED.into_iter().filter(move |section| self.contains(*section))
    }

    /// The section with this name, alone; none for the skeleton, which is never erased, and for what is no name.
    pub fn named(name: &str) -> Option<Self> {
        Section::COMMITTED.into_iter().find(|section| section.as_str() == name).map(Self::from)
    }
}

impl From<Section> for Sections {
    fn from(section: Section) -> Self {
        Self(1 << section.number()).and(Self::ALL)
    }
}

impl BitOr for Sections {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Section> for Sections {
    fn from_iter<I: IntoIterator<Item = Section>>(sections: I) -> Self {
        sections.into_iter().fold(Self::default(), |all, section| all | section.into())
    }
}

/// Names with commas between them, ascending.
impl fmt::Display for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Section::as_str).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_was_put_in_and_never_the_skeleton() {
        assert!(Sections::from(Section::Skeleton).is_empty());
        let both: Sections = [Section::Origin, Section::Actor].into_iter().collect();
        assert_eq!(both.to_string(), "actor,origin");
        assert!(both.contains(Section::Actor) && !both.contains(Section::Details));
        assert!(Sections::ALL.covers(both) && !both.covers(Sections::ALL));
        assert_eq!(Sections::ALL.iter().collect::<Vec<_>>(), Section::COMMITTED);
        assert_eq!(both.without(Section::Actor.into()), Sections::named("origin").unwrap());
        assert_eq!((Sections::named("skeleton"), Sections::named("actors")), (None, None));
    }
}

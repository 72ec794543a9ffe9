//! [`Attrs`]: an object's attributes. Mostly two or three, copied with every change of the onode: in one piece of memory.

use bytes::Bytes;

/// See the module. By ascending name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    entries: Vec<(Bytes, Bytes)>,
}

impl Attrs {
    /// Attributes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Names and values, by ascending name.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> + Clone {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// Sets one; `name` is made into one that may stay in memory if it is new.
    pub fn set(&mut self, name: &Bytes, value: Bytes, own: impl FnOnce(&Bytes) -> Bytes) {
        match self.entries.binary_search_by(|(other, _)| other.cmp(name)) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (own(name), value)),
        }
    }

    /// Takes one away, if it is there.
    pub fn remove(&mut self, name: &Bytes) {
        if let Ok(at) = self.entries.binary_search_by(|(other, _)| other.cmp(name)) {
            self.entries.remove(at);
        }
    }

    /// Bytes of memory beside this and beside the strings.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(Bytes, Bytes)>()
    }
}

impl FromIterator<(Bytes, Bytes)> for Attrs {
    fn from_iter<I: IntoIterator<Item = (Bytes, Bytes)>>(entries: I) -> Self {
        let mut attrs = Self::default();
        entries.into_iter().for_each(|(name, value)| attrs.set(&name, value, Bytes::clone));
        attrs
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn are_what_a_map_would_be() {
        let (mut attrs, mut model) = (Attrs::default(), BTreeMap::new());
        for step in 0..2000u64 {
            let number = step.wrapping_mul(6_364_136_223_846_793_005) >> 33;
            let (name, value) = (Bytes::from(format!("a{}", number % 23)), Bytes::from(step.to_string()));
            if number % 3 == 0 {
                attrs.remove(&name);
                model.remove(&name);
            } else {
                attrs.set(&name, value.clone(), Bytes::clone);
                model.insert(name, value);
            }
            assert!(attrs.iter().eq(model.iter()) && attrs.len() == model.len(), "step {step}");
        }
        assert!(attrs.len() > 5);
        assert_eq!(model.into_iter().rev().collect::<Attrs>(), attrs);
    }
}

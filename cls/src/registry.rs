//! The classes that are compiled in.

use bytes::Bytes;

use crate::context::{Caller, ObjectContext};
use crate::host::{Access, CallFuture, ClassHost};
use crate::object::Object;
use crate::{hello, lock};
use wire::Errno;

/// A method: its name, what it does, and its code.
#[derive(Debug)]
pub struct Method {
    /// Name.
    pub name: &'static str,
    /// What it does to its object.
    pub access: Access,
    /// Runs it.
    pub run: for<'a, 'o> fn(&'a mut ObjectContext<'o>, Bytes) -> CallFuture<'a>,
}

/// A class.
#[derive(Debug)]
pub struct Class {
    /// Name.
    pub name: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
}

/// Classes. Names differ, and so do those of the methods of one class.
#[derive(Debug)]
pub struct Registry {
    /// The classes.
    pub classes: &'static [&'static Class],
}

/// All classes of this crate.
pub static NATIVE: Registry = Registry { classes: &[&hello::CLASS, &lock::CLASS] };

impl Registry {
    fn method(&self, class: &[u8], method: &[u8]) -> Option<&'static Method> {
        let class = self.classes.iter().find(|one| one.name.as_bytes() == class)?;
        class.methods.iter().find(|one| one.name.as_bytes() == method)
    }
}

impl ClassHost for Registry {
    fn access(&self, class: &[u8], method: &[u8]) -> Option<Access> {
        self.method(class, method).map(|method| method.access)
    }

    fn call<'a>(
        &'a self,
        class: &'a [u8],
        method: &'a [u8],
        object: &'a mut dyn Object,
        caller: &'a Caller,
        input: Bytes,
    ) -> CallFuture<'a> {
        let method = self.method(class, method);
        Box::pin(async move {
            let method = method.ok_or(Errno::EOPNOTSUPP)?;
            let mut context = ObjectContext::new(object, caller, method.access);
            (method.run)(&mut context, input).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::NATIVE;

    #[test]
    fn names_differ() {
        let classes: BTreeSet<_> = NATIVE.classes.iter().map(|class| class.name).collect();
        assert_eq!(classes.len(), NATIVE.classes.len());
        for class in NATIVE.classes {
            let methods: BTreeSet<_> = class.methods.iter().map(|method| method.name).collect();
            assert_eq!(methods.len(), class.methods.len(), "{}", class.name);
        }
    }
}

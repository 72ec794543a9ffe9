//! Error numbers as replies carry them, negated. Linux's, which are Ceph's on the wire whatever the client runs on.

use std::fmt;

/// A failure that the other side is told of; positive. Numbers without a name here are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $number:literal,)*) => {
        #[expect(missing_docs, reason = "the names are errno's")]
        impl Errno {
            $(pub const $name: Self = Self($number);)*

            /// Its name, if it has one here.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    Self(_) => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1,
    ENOENT = 2,
    EIO = 5,
    E2BIG = 7,
    EAGAIN = 11,
    EACCES = 13,
    EBUSY = 16,
    EEXIST = 17,
    EINVAL = 22,
    EFBIG = 27,
    ENOSPC = 28,
    ERANGE = 34,
    ENAMETOOLONG = 36,
    ENODATA = 61,
    EOVERFLOW = 75,
    EMSGSIZE = 90,
    EOPNOTSUPP = 95,
    ENOTCONN = 107,
    EBLOCKLISTED = 108,
    ETIMEDOUT = 110,
    EDQUOT = 122,
    ECANCELED = 125,
}

impl Errno {
    /// From a result as replies carry it; `None` unless it is negative.
    pub fn from_code(code: i32) -> Option<Self> {
        (code < 0).then(|| Self(code.saturating_neg()))
    }

    /// As results carry it: negative.
    pub const fn code(self) -> i32 {
        -self.0
    }

    /// The number, positive.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errnos_convert() {
        assert_eq!(Errno::from_code(-2), Some(Errno::ENOENT));
        assert_eq!(Errno::from_code(0), None);
        assert_eq!(Errno::from_code(3), None);
        assert_eq!(Errno::from_code(i32::MIN).map(Errno::code), Some(-i32::MAX));
        assert_eq!(Errno::ENOENT.code(), -2);
        assert_eq!(Errno::ENOSPC.to_string(), "ENOSPC");
        assert_eq!(Errno::from_code(-4098).map(|errno| errno.to_string()), Some("errno 4098".into()));
    }
}

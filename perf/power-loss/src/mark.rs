//! What the load writes into the log of writes: which requests were answered by then, and what else happened. Pure.

/// Longest text: the log keeps it in the rest of a sector of 512 bytes.
const TEXT_MAX: usize = 440;

/// One mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// These requests were answered before, and no request from `submitted` on was sent before.
    Answered {
        /// Requests sent so far.
        submitted: u64,
        /// Numbers of requests.
        requests: Vec<u64>,
    },
    /// Something worth knowing, in one word.
    Event(String),
}

impl Mark {
    /// The texts to write for these answers, each short enough.
    pub fn answered(submitted: u64, requests: &[u64]) -> Vec<String> {
        let head = format!("a:{submitted}:");
        let mut texts = Vec::new();
        let mut text = head.clone();
        for request in requests {
            let number = format!("{request},");
            if text.len() + number.len() > TEXT_MAX {
                texts.push(std::mem::replace(&mut text, head.clone()));
            }
            text.push_str(&number);
        }
        texts.push(text);
        texts
    }

    /// The text to write for an event.
    pub fn event(name: &str) -> String {
        format!("e:{name}")
    }

    /// What a text says; `None` if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("e:") {
            return Some(Self::Event(name.to_owned()));
        }
        let (submitted, list) = text.strip_prefix("a:")?.split_once(':')?;
        let requests =
            list.split_terminator(',').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self::Answered { submitted: submitted.parse().ok()?, requests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_are_short() {
        let requests: Vec<u64> = (100_000..100_300).collect();
        let texts = Mark::answered(200_000, &requests);
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() <= TEXT_MAX));
        let mut back = Vec::new();
        for text in &texts {
            match Mark::parse(text) {
                Some(Mark::Answered { submitted: 200_000, requests }) => back.extend(requests),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(back, requests);
        assert_eq!(Mark::parse(&Mark::event("kill")), Some(Mark::Event("kill".into())));
        for text in ["", "a:", "a:x:1", "a:1:y", "dm-log-writes-end"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}

//! What merge operands do to a value. Pure; every implementation, RocksDB's included, combines by these.

use bytes::Bytes;

use crate::kv::MergeOperator;

/// `value` (nothing counts as empty) combined with an operand. Associative, so operands may be combined first.
pub fn merge(operator: MergeOperator, value: Option<&[u8]>, operand: &[u8]) -> Bytes {
    let value = value.unwrap_or_default();
    let len = value.len().max(operand.len());
    match operator {
        MergeOperator::Xor => (0..len).map(|at| byte(value, at) ^ byte(operand, at)).collect(),
        MergeOperator::AddI64 => {
            let words = len.div_ceil(8);
            (0..words).flat_map(|at| word(value, at).wrapping_add(word(operand, at)).to_le_bytes()).collect()
        }
    }
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The `at`-th word; a word that is cut short is padded with zeroes.
fn word(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    let rest = bytes.get(at * 8..).unwrap_or_default();
    let len = rest.len().min(8);
    word[..len].copy_from_slice(&rest[..len]);
    i64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn adds_and_xors() {
        let add = |a: &[i64], b: &[i64]| {
            let bytes = |words: &[i64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
            merge(MergeOperator::AddI64, Some(&bytes(a)), &bytes(b)) == bytes(&[a[0].wrapping_add(b[0])])
        };
        assert!(add(&[5], &[-7]) && add(&[i64::MAX], &[1]));
        assert_eq!(merge(MergeOperator::AddI64, None, &3_i64.to_le_bytes())[..], 3_i64.to_le_bytes());
        assert_eq!(merge(MergeOperator::Xor, Some(&[1, 2]), &[3, 2, 9])[..], [2, 0, 9]);
        assert_eq!(merge(MergeOperator::Xor, None, &[7])[..], [7]);
    }

    proptest! {
        #[test]
        fn operands_may_be_combined_first(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            for operator in [MergeOperator::AddI64, MergeOperator::Xor] {
                let one_by_one = merge(operator, Some(&merge(operator, Some(&a), &b)), &c);
                let combined = merge(operator, Some(&a), &merge(operator, Some(&b), &c));
                prop_assert_eq!(one_by_one, combined);
            }
        }
    }
}

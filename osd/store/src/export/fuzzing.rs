//! Exports of any bytes.

use super::{ExportError, ExportHeader, ExportReader, ExportWriter, MAGIC, checksum};
use crate::transaction::Transaction;
use crate::types::ObjectId;

/// An export as it is, and with the magic bytes and the checksums that fit, so that its frames are looked at.
pub(crate) fn export(input: &[u8]) {
    let sealed = seal(input);
    for bytes in [input, &sealed] {
        let Ok((header, transactions, left_out)) = read(bytes) else { continue };
        let mut writer = must(ExportWriter::new(Vec::new(), header.clone()));
        transactions.iter().for_each(|one| must(writer.transaction(one.clone())));
        left_out.iter().for_each(|object| must(writer.left_out(object.clone())));
        let written = must(writer.end());
        assert!(
            read(&written).is_ok_and(|again| again == (header, transactions, left_out)),
            "it is not read as written"
        );
    }
}

fn read(bytes: &[u8]) -> Result<(ExportHeader, Vec<Transaction>, Vec<ObjectId>), ExportError> {
    let (mut reader, header) = ExportReader::new(bytes)?;
    let mut transactions = Vec::new();
    while let Some(one) = reader.next_transaction()? {
        transactions.push(one);
    }
    Ok((header, transactions, reader.left_out().to_vec()))
}

fn seal(input: &[u8]) -> Vec<u8> {
    let mut sealed = MAGIC.to_vec();
    let mut rest = input.get(MAGIC.len()..).unwrap_or_default();
    let mut frame = 0;
    while let Some((&[kind, a, b, c, d], after)) = rest.split_first_chunk() {
        let length = (u32::from_le_bytes([a, b, c, d]) as usize).min(after.len());
        let (body, after) = after.split_at(length);
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let head = [kind, length[0], length[1], length[2], length[3]];
        sealed.extend(head);
        sealed.extend(body);
        sealed.extend(checksum(frame, &head, body).to_le_bytes());
        frame += 1;
        rest = after.get(4..).unwrap_or_default();
    }
    sealed
}

fn must<T>(result: std::io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("what was read can be written: {error}"),
    }
}

/// What a fuzzer begins with.
pub(crate) fn seeds(header: ExportHeader, transaction: Transaction) -> Vec<Vec<u8>> {
    let mut writer = must(ExportWriter::new(Vec::new(), header));
    must(writer.transaction(transaction));
    vec![must(writer.end())]
}

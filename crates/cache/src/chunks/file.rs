//! A chunk as a file: the sizes of its frames, their bytes, and a checksum of all of it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::Chunk;
use crate::frame::Frame;

/// The first bytes of a file, which change when its form does.
const MAGIC: &[u8; 8] = b"tdchunk1";

/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// Bodies begin at multiples of this: their values are used where they are.
const ALIGNMENT: usize = 64;

/// Bytes that say how large a frame is.
const SIZES: usize = 24;

/// The bytes of a chunk's file.
pub(super) fn write(chunk: &Chunk) -> Bytes {
    let mut file = BytesMut::with_capacity(chunk.size() + chunk.frames.len() * (SIZES + ALIGNMENT) + 128);
    file.put_slice(MAGIC);
    file.put_u64_le(chunk.frames.len() as u64);
    for frame in &chunk.frames {
        let (header, body) = frame.parts();
        file.put_u64_le(frame.rows());
        file.put_u64_le(header.len() as u64);
        file.put_u64_le(body.len() as u64);
    }
    for frame in &chunk.frames {
        let (header, body) = frame.parts();
        file.put_slice(header);
        file.put_bytes(0, padding(file.len()));
        file.put_slice(body);
    }
    file.put_u32_le(crc32fast::hash(&file));
    file.freeze()
}

/// The chunk of a file; nothing where the file is not whole.
pub(super) fn read(file: &Bytes) -> Option<Chunk> {
    let end = file.len().checked_sub(CHECKSUM)?;
    if file.slice(end..).get_u32_le() != crc32fast::hash(file.get(..end)?) {
        return None;
    }
    let mut at = MAGIC.len();
    if file.get(..at)? != MAGIC {
        return None;
    }
    let mut number = || {
        let bytes = file.get(at..at + 8)?;
        at += 8;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let count = usize::try_from(number()?).ok().filter(|count| *count <= end / SIZES)?;
    let mut sizes = Vec::with_capacity(count);
    for _ in 0..count {
        sizes.push((number()?, usize::try_from(number()?).ok()?, usize::try_from(number()?).ok()?));
    }
    let mut frames = Vec::with_capacity(count);
    let mut take = |bytes: usize| {
        let part = at.checked_add(bytes).filter(|to| *to <= end).map(|to| file.slice(at..to))?;
        at += bytes;
        Some(part)
    };
    let mut filled = MAGIC.len() + 8 + count * SIZES;
    for (rows, header, body) in sizes {
        let header_bytes = take(header)?;
        filled += header;
        let gap = padding(filled);
        take(gap)?;
        frames.push(Frame::from_parts(header_bytes, take(body)?, rows));
        filled += gap + body;
    }
    Some(Chunk { frames })
}

fn padding(at: usize) -> usize {
    at.next_multiple_of(ALIGNMENT) - at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> Chunk {
        let frame = |rows: u64| {
            let bytes = |count: u64| Bytes::from(vec![b'x'; usize::try_from(count).unwrap()]);
            Frame::from_parts(bytes(rows + 3), bytes(rows * 7), rows)
        };
        Chunk { frames: vec![frame(5), frame(0), frame(900)] }
    }

    #[test]
    fn a_chunk_is_read_as_it_was_written() {
        let file = write(&chunk());
        let read = read(&file).unwrap();
        assert_eq!(read.frames.iter().map(Frame::rows).sum::<u64>(), 905);
        let parts = |chunk: &Chunk| -> Vec<(Bytes, Bytes)> {
            chunk
                .frames
                .iter()
                .map(Frame::parts)
                .map(|(header, body)| (header.clone(), body.clone()))
                .collect()
        };
        assert_eq!(parts(&read), parts(&chunk()));
        let place = |bytes: &Bytes| bytes.as_ptr().addr() - file.as_ptr().addr();
        assert!(read.frames.iter().all(|frame| place(frame.parts().1) % ALIGNMENT == 0));
    }

    #[test]
    fn a_file_that_is_not_whole_is_none() {
        let file = write(&chunk());
        for end in [0, 3, 8, 20, file.len() / 2, file.len() - 1] {
            assert!(read(&file.slice(..end)).is_none(), "{end}");
        }
        for place in [0, 9, 30, 200, file.len() - 1] {
            let mut damaged = file.to_vec();
            damaged[place] ^= 1;
            assert!(read(&damaged.into()).is_none(), "{place}");
        }
        // Sizes that lie, with a checksum that holds.
        let mut lying = BytesMut::from(&MAGIC[..]);
        lying.put_u64_le(u64::MAX);
        lying.put_u32_le(crc32fast::hash(&lying));
        assert!(read(&lying.freeze()).is_none());
    }
}

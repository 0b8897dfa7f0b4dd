//! Maps of files that are never written again.
#![expect(unsafe_code, reason = "memmap2 cannot know that nobody truncates the file; see RealMap::new")]

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memmap2::{Advice, Mmap};
use rustix::io::Errno;

use super::DiskMap;

/// A settled segment in the address space.
#[derive(Debug)]
pub(super) struct RealMap {
    map: Mmap,
    file: Arc<File>,
}

impl RealMap {
    pub(super) fn new(file: &Arc<File>) -> io::Result<Self> {
        // SAFETY: settled segments are never written or truncated once they are listed, only unlinked, and the
        // directory is locked against other servers. Should somebody else change the file nevertheless, `read` has the
        // pages brought in first, which is an error where there are none, and every record's checksum is verified.
        let map = unsafe { Mmap::map(file.as_ref())? };
        Ok(Self { map, file: Arc::clone(file) })
    }
}

impl DiskMap for RealMap {
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Cow<'_, [u8]>> {
        let end = usize::try_from(offset).ok().and_then(|start| Some((start, start.checked_add(bytes)?)));
        let Some((start, end)) = end.filter(|(_, end)| *end <= self.map.len()) else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "read behind the end"));
        };
        if bytes == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        match self.map.advise_range(Advice::PopulateRead, start, bytes) {
            Ok(()) => Ok(Cow::Borrowed(&self.map[start..end])),
            // Linux before 5.14 does not know it, and a page that cannot be read would end the process. Of such a page it says
            // no more than that the address is bad; a read says why.
            Err(error)
                if [Errno::INVAL, Errno::FAULT]
                    .map(|e| Some(e.raw_os_error()))
                    .contains(&error.raw_os_error()) =>
            {
                let mut into = vec![0; bytes];
                self.file.read_exact_at(&mut into, offset)?;
                Ok(Cow::Owned(into))
            }
            Err(error) => Err(error),
        }
    }
}

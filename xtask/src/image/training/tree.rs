//! A folder of this machine as an archive: sorted, and without its clock and owners.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::image::oci::{add_folder, header};

/// Whose files are.
pub(super) type Owner<'a> = &'a dyn Fn(&Path) -> u32;

/// Writes all that is in `folder` as it lies under `inside` in the image, the folders above it included.
pub(super) fn write(
    folder: &Path,
    inside: &Path,
    owner: Owner<'_>,
    output: &mut dyn Write,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(output);
    let above: Vec<&Path> = inside.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    for path in above.into_iter().rev() {
        add_folder(&mut archive, &path.to_string_lossy(), 0o755)?;
    }
    add(&mut archive, folder, inside, owner)?;
    archive.finish()
}

fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    folder: &Path,
    inside: &Path,
    owner: Owner<'_>,
) -> io::Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        // What an interpreter leaves where it ran is no part of a package.
        let Some(name) = path.file_name().filter(|name| *name != "__pycache__") else { continue };
        let place = inside.join(name);
        let kind = fs::symlink_metadata(&path)?;
        // Whether it may be executed is all that a checkout keeps of a file's mode.
        let executable = kind.is_dir() || kind.permissions().mode() & 0o100 != 0;
        let mut header = header(if executable { 0o755 } else { 0o644 });
        let id = u64::from(owner(&place));
        header.set_uid(id);
        header.set_gid(id);
        if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, &place, fs::read_link(&path)?)?;
        } else if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, format!("{}/", place.display()), io::empty())?;
            add(archive, &path, &place, owner)?;
        } else {
            header.set_size(kind.len());
            archive.append_data(&mut header, &place, fs::File::open(&path)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_contain_nothing_of_the_build_machine() {
        let temporary = tempfile::tempdir().unwrap();
        let home = temporary.path().join("home/user");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir(home.join("__pycache__")).unwrap();
        fs::write(home.join("run"), "#!").unwrap();
        fs::set_permissions(home.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("run", home.join("also")).unwrap();
        let mut bytes = Vec::new();
        let owner = |path: &Path| if path.starts_with("opt/home/user") { 1000 } else { 0 };
        write(temporary.path(), Path::new("opt"), &owner, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let told: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let (path, header) = (entry.path().unwrap().display().to_string(), entry.header());
                (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap())
            })
            .collect();
        let expected = [
            ("opt/", 0o755, 0),
            ("opt/home/", 0o755, 0),
            ("opt/home/user/", 0o755, 1000),
            ("opt/home/user/also", 0o755, 1000),
            ("opt/home/user/run", 0o755, 1000),
        ];
        assert_eq!(told, expected.map(|(path, mode, uid)| (path.to_owned(), mode, uid, 0)));
    }
}

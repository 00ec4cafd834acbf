//! Files that the settings name: the deployer's own policies, and the control map.
//!
//! Not here: what is in them (`access::policy`, `query::controls`).

use super::SettingsError;
use query::controls::ControlMap;
use std::path::Path;

/// Every `.cedar` file of a folder, by name.
pub(super) fn policies(folder: &Path) -> Result<Vec<(String, String)>, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|kind| kind == "cedar") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path);
            files.push((name, text.map_err(|source| SettingsError::Unreadable { path, source })?));
        }
    }
    files.sort();
    Ok(files)
}

/// The control map in a file, or the one that comes with the program.
pub(super) fn controls(path: Option<&Path>) -> Result<ControlMap, SettingsError> {
    let Some(path) = path else {
        let failed = |source| SettingsError::Controls { path: "of the program itself".into(), source };
        return ControlMap::built_in().map_err(failed);
    };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
    ControlMap::parse(&text).map_err(|source| SettingsError::Controls { path: path.into(), source })
}

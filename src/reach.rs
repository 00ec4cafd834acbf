//! What opens remote stores: the usual environment variables, and the AWS files that every other AWS tool reads.
//!
//! Read once, handed down as [`Access`]. Not here: what each variable means (the library), which store is meant
//! ([`crate::settings`]). Invariants: no value is ever printed; nothing is read from files when the environment says
//! enough.

use ledger_store::{Access, Location};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The AWS files cannot be used. Values are never repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// A file is there and cannot be read.
    #[error("the AWS file {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A line is not understood.
    #[error("line {line} of the AWS file {path} is not understood: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What would be right.
        why: &'static str,
    },
    /// `AWS_PROFILE` names no profile.
    #[error("AWS_PROFILE names the profile {0:?}, which is in neither of the AWS files")]
    NoProfile(String),
    /// The profile takes its credentials from where this program does not look.
    #[error(
        "the AWS profile {profile:?} takes its credentials from `{by}`, which is not supported: give a profile with \
         keys, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a web or instance identity"
    )]
    Indirect {
        /// Which profile.
        profile: String,
        /// Which setting.
        by: &'static str,
    },
}

/// Variables by name.
type Variables = BTreeMap<String, String>;

/// What the environment says of this location.
///
/// # Errors
/// The location is in S3, the environment names no credentials, and the AWS files cannot be used.
pub fn access_to(location: &Location) -> Result<Access, ReachError> {
    access(
        location,
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
    )
}

fn access(location: &Location, variables: Variables) -> Result<Access, ReachError> {
    let mut options: Variables = BTreeMap::new();
    for (name, value) in &variables {
        if ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix)) {
            options.insert(name.clone(), value.clone());
        }
    }
    // What the clouds call these, and what the library does.
    for (theirs, ours) in [("SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT"), ("IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT")] {
        if let Some(value) = variables.get(theirs) {
            options.entry(ours.into()).or_insert_with(|| value.clone());
        }
    }
    if location.to_string().starts_with("s3") && needs_files(&variables) {
        from_files(&variables, &mut options)?;
    }
    Ok(Access::new(options.into_iter().collect()))
}

/// Whether nothing in the environment says where credentials come from.
fn needs_files(variables: &Variables) -> bool {
    let sources = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_SKIP_SIGNATURE",
    ];
    variables.contains_key("AWS_PROFILE") && !variables.contains_key("AWS_ACCESS_KEY_ID")
        || sources.iter().all(|source| !variables.contains_key(*source))
}

/// Adds what the profile says; a file that is not there says nothing.
fn from_files(variables: &Variables, options: &mut Variables) -> Result<(), ReachError> {
    let named = variables.get("AWS_PROFILE").filter(|name| !name.is_empty());
    let profile = named.map_or("default", String::as_str);
    let place = |variable: &str, file: &str| {
        let home = || Some(Path::new(variables.get("HOME")?).join(".aws").join(file));
        variables.get(variable).map(PathBuf::from).or_else(home)
    };
    let mut found = None;
    // Where both files have a key, that of `credentials` counts.
    for (variable, file, in_config) in
        [("AWS_CONFIG_FILE", "config", true), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false)]
    {
        let Some(path) = place(variable, file) else { continue };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ReachError::Unreadable { path, source }),
        };
        if let Some(more) = section(&path, &text, profile, in_config)? {
            found.get_or_insert_with(BTreeMap::new).extend(more);
        }
    }
    let Some(found) = found else {
        return named.map_or(Ok(()), |name| Err(ReachError::NoProfile(name.clone())));
    };
    if !found.contains_key("aws_access_key_id") {
        let by = ["role_arn", "sso_session", "sso_start_url", "credential_process", "source_profile"];
        if let Some(by) = by.into_iter().find(|by| found.contains_key(*by)) {
            return Err(ReachError::Indirect { profile: profile.into(), by });
        }
    }
    for (key, variable) in [
        ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
        ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("aws_session_token", "AWS_SESSION_TOKEN"),
        ("region", "AWS_DEFAULT_REGION"),
        ("endpoint_url", "AWS_ENDPOINT_URL"),
    ] {
        if let Some(value) = found.get(key) {
            options.entry(variable.into()).or_insert_with(|| value.clone());
        }
    }
    Ok(())
}

/// The settings of one profile; none when the file does not have it.
fn section(path: &Path, text: &str, profile: &str, in_config: bool) -> Result<Option<Variables>, ReachError> {
    let mut found: Option<Variables> = None;
    let (mut within, mut begun) = (false, false);
    for (at, line) in text.lines().enumerate() {
        let malformed = |why| ReachError::Malformed { path: path.into(), line: at + 1, why };
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[') {
            let name = heading.split(" #").next().unwrap_or_default().trim_end().strip_suffix(']');
            let name = name.ok_or_else(|| malformed("a heading ends in `]`"))?.trim();
            // In `config` a profile other than the default one is headed `profile NAME`.
            let name = match name.strip_prefix("profile ") {
                Some(name) if in_config => Some(name.trim()),
                None if !in_config || name == "default" => Some(name),
                _ => None,
            };
            (begun, within) = (true, name == Some(profile));
            if within {
                found.get_or_insert_with(BTreeMap::new);
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(malformed("expected `[profile]` or `key = value`"));
        };
        if !begun {
            return Err(malformed("a setting stands before the first `[profile]`"));
        }
        // Nested settings belong to a service, such as `s3 =`, and are not ours.
        if let Some(found) = found.as_mut().filter(|_| within && !is_nested) {
            let value = value.split(" #").next().unwrap_or_default();
            found.insert(key.trim().to_ascii_lowercase(), value.trim().into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(of: &[(&str, &str)]) -> Variables {
        of.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn reach(variables: Variables) -> Result<Variables, ReachError> {
        let mut options = BTreeMap::new();
        if needs_files(&variables) {
            from_files(&variables, &mut options)?;
        }
        Ok(options)
    }

    fn home(config: &str, credentials: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".aws");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config"), config).unwrap();
        std::fs::write(folder.join("credentials"), credentials).unwrap();
        home
    }

    #[test]
    fn profiles_of_both_files_are_put_together() {
        let config = "[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n[profile work] # mine\nregion=eu-north-1\n";
        let credentials = "; mine\n[default]\naws_access_key_id = A\naws_secret_access_key = S=/+\n\n[work]\naws_access_key_id=B\naws_secret_access_key=T\naws_session_token=U\n";
        let home = home(config, credentials);
        let home = home.path().to_str().unwrap();
        let found = reach(variables(&[("HOME", home)])).unwrap();
        assert_eq!((&*found["AWS_ACCESS_KEY_ID"], &*found["AWS_SECRET_ACCESS_KEY"]), ("A", "S=/+"));
        assert_eq!((found["AWS_DEFAULT_REGION"].as_str(), found.len()), ("eu-west-1", 3));
        let found = reach(variables(&[("HOME", home), ("AWS_PROFILE", "work")])).unwrap();
        assert_eq!((&*found["AWS_ACCESS_KEY_ID"], &*found["AWS_SESSION_TOKEN"]), ("B", "U"));
        assert_eq!(found["AWS_DEFAULT_REGION"], "eu-north-1");
        // Keys in the environment count before any file.
        assert!(reach(variables(&[("HOME", home), ("AWS_ACCESS_KEY_ID", "C")])).unwrap().is_empty());
        assert!(reach(variables(&[("HOME", "/nowhere")])).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line_and_without_values() {
        let missing = home("", "[default]\n");
        let home_of = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_string();
        let refused = reach(variables(&[("HOME", &home_of(&missing)), ("AWS_PROFILE", "none")])).unwrap_err();
        assert_eq!(refused.to_string(), "AWS_PROFILE names the profile \"none\", which is in neither of the AWS files");
        for (credentials, line) in
            [("[default]\naws_secret_access_key sesame\n", 2), ("\n[sesame\n", 2), ("aws_access_key_id = sesame\n", 1)]
        {
            let home = home("", credentials);
            let refused = reach(variables(&[("HOME", &home_of(&home))])).unwrap_err();
            let told = format!("{refused} {refused:?}");
            assert!(matches!(refused, ReachError::Malformed { line: at, .. } if at == line), "{told}");
            assert!(!told.contains("sesame"), "{told}");
        }
        let indirect = home("[default]\nrole_arn = arn:aws:iam::1:role/sesame\nsource_profile = x\n", "");
        let refused = reach(variables(&[("HOME", &home_of(&indirect))])).unwrap_err().to_string();
        assert!(refused.contains("`role_arn`") && !refused.contains("sesame"), "{refused}");
    }
}

//! Lists of packages, and searches in them: of what somebody sees, and of nothing else.

use std::collections::HashMap;

use clawhold_marketplace::index::{Entry, Status};
use clawhold_store::{Listed, Package, Publication};
use clawhold_tenancy::manifest::HttpAsk;
use clawhold_tenancy::permit::{Market, ShowPackage};
use clawhold_tenancy::{Context, PackageName, Permit, TenantId};
use semver::Version as Number;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Viewer;
use crate::authentic::same;
use crate::{Host, Problem, SkillSpec};

/// Packages that are looked at in one go.
const ROWS: u32 = 200;

/// With where the next page begins, if there may be more.
fn page(rows: Vec<Package>) -> (Vec<Package>, Option<PackageName>) {
    let last = rows.last().filter(|_| rows.len() == ROWS as usize).map(|last| last.name.clone());
    (rows, last)
}

/// A package as lists show it.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its name.
    pub name: PackageName,
    /// When its first version was published, in microseconds since 1970.
    pub created_us: i64,
    /// The newest version that the viewer sees, and may install if there is such a one.
    pub version: Number,
    /// What becomes of that.
    pub status: Status,
    /// What it says of itself.
    pub about: About,
    /// What the viewer has of it.
    pub installed: Option<Installed>,
}

/// What a tenant has of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The version.
    pub version: Number,
    /// How many of the tenant's skills are of it.
    pub skills: u64,
}

/// What a version says of itself, in short.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// The manifest's description.
    pub description: String,
    /// Its skills, by name.
    pub skills: Vec<String>,
    /// What they are said to do, for searches.
    #[serde(default)]
    said: String,
    /// The hosts that it asks for.
    pub hosts: Vec<String>,
    /// The secrets that it asks for.
    pub secrets: Vec<String>,
    /// Whether it runs on WASI.
    pub wasi: bool,
    /// Whether its publisher signed it.
    pub signed: bool,
}

impl About {
    pub(crate) fn of(publication: &Publication, skills: &[SkillSpec]) -> Self {
        let manifest = &publication.manifest;
        Self {
            description: manifest.package.description.clone(),
            skills: skills.iter().map(|skill| skill.name.to_string()).collect(),
            said: skills.iter().map(|skill| skill.description.as_str()).collect::<Vec<_>>().join(" "),
            hosts: manifest.http.iter().map(host_of).collect(),
            secrets: manifest.secrets.iter().map(|ask| ask.name.to_string()).collect(),
            wasi: manifest.wasi.is_some(),
            signed: publication.signature.is_some(),
        }
    }

    /// What it is found by.
    pub(crate) fn words(&self, name: &PackageName) -> String {
        format!("{name} {} {} {}", self.description, self.skills.join(" "), self.said).to_lowercase()
    }
}

/// A host as the manifest names it: itself, or the setting that will.
fn host_of(ask: &HttpAsk) -> String {
    let setting = || ask.host_setting.as_ref().map(|setting| format!("(the setting {setting})"));
    ask.host.clone().or_else(setting).unwrap_or_default()
}

impl Host {
    /// Packages that the caller sees and that have all of these words, behind `after`, by name; and where the next page begins.
    pub async fn packages(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        words: &[String],
        after: Option<&PackageName>,
        limit: u32,
    ) -> Result<(Vec<Summary>, Option<PackageName>), Problem> {
        let viewer = Viewer::of(cx);
        let (mut found, mut after) = (Vec::new(), after.cloned());
        let next = loop {
            let (rows, last) = self.rows(&viewer, words, after.as_ref()).await?;
            // What is searched is what is shown: a version that the viewer does not see must not be found by its words.
            let has_all = |one: &Summary| {
                if words.is_empty() {
                    return true;
                }
                let text = one.about.words(&one.name);
                words.iter().all(|word| text.contains(word))
            };
            found.extend(rows.into_iter().filter(has_all));
            if found.len() > limit as usize {
                found.truncate(limit as usize);
                break found.last().map(|one| one.name.clone());
            }
            match last {
                None => break None,
                last => after = last,
            }
        };
        if !words.is_empty() {
            // What is called so comes before what only mentions it.
            found.sort_by_key(|one| (!words.iter().all(|word| one.name.as_str().contains(word)), one.name.clone()));
        }
        Ok((found, next))
    }

    /// What the caller has of a package, if it is a tenant.
    pub async fn installed(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
    ) -> Result<Option<Installed>, Problem> {
        let Viewer::Tenant(tenant) = Viewer::of(cx) else { return Ok(None) };
        let found = self.store.tenant(tenant).await?.installed_between(name, name).await?;
        Ok(found.into_iter().next().map(|(_, version, skills)| Installed { version, skills }))
    }

    /// The next packages as the viewer sees them, and the last of those that were looked at, if there are more.
    async fn rows(
        &self,
        viewer: &Viewer<'_>,
        words: &[String],
        after: Option<&PackageName>,
    ) -> Result<(Vec<Summary>, Option<PackageName>), Problem> {
        // One transaction: what is listed and what is granted of it are of one moment.
        let mut tx = self.store.system("list packages").await?;
        let (mut granted, mut installed) = (Vec::new(), Vec::new());
        let (rows, last) = match viewer {
            Viewer::Operator => page(tx.packages(Listed::All, words, after, ROWS).await?),
            Viewer::Publisher(own) => page(tx.packages(Listed::Of(own), words, after, ROWS).await?),
            // The database would search the newest version, which a tenant may not see.
            Viewer::Tenant(tenant) => {
                let tier = tx.tenant(tenant).await?.ok_or(Problem::NotFound("tenant"))?.tier;
                let (rows, last) = tx.packages_for(tenant, &tier, after, ROWS).await?;
                if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
                    granted = tx.granted_between(tenant, &tier, &first.name, &last.name).await?;
                    drop(tx);
                    installed = self.store.tenant(tenant).await?.installed_between(&first.name, &last.name).await?;
                }
                (rows, last)
            }
        };
        let mut by_package = HashMap::<_, Vec<_>>::new();
        for grant in &granted {
            by_package.entry(&grant.package).or_default().push(grant);
        }
        let index = self.verified_index()?;
        let mut seen = Vec::with_capacity(rows.len());
        for row in rows {
            let ranges = self.ranges(by_package.remove(&row.name).unwrap_or_default());
            let is_whole = match viewer {
                Viewer::Tenant(tenant) => ranges.is_empty() && self.is_own(tenant, &row.name).await?,
                _ => true,
            };
            let sees = |entry: &&Entry| is_whole || ranges.iter().any(|range| range.contains(&entry.version));
            let versions = index.versions(&row.name).iter().filter(sees);
            let newest = versions
                .max_by_key(|entry| (entry.status.may_install(), entry.version.pre.is_empty(), entry.version.clone()));
            let Some(newest) = newest else { continue };
            let installed = installed.iter().find(|(package, ..)| *package == row.name);
            let installed =
                installed.map(|(_, version, skills)| Installed { version: version.clone(), skills: *skills });
            match self.summary(row, newest, installed).await {
                Ok(summary) => seen.push(summary),
                // One that somebody has changed past the host, or that cannot be read, hides no other.
                Err(Problem::Changed | Problem::Internal | Problem::NotFound(_)) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok((seen, last))
    }

    /// Whether a package is a tenant's own. Not because nothing grants it: a grant may have been taken back just now.
    async fn is_own(&self, tenant: &TenantId, package: &PackageName) -> Result<bool, Problem> {
        match self.publisher_of(&package.publisher()).await {
            Ok(publisher) => Ok(publisher.owner.as_ref() == Some(tenant)),
            Err(Problem::NotFound(_) | Problem::Changed) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    async fn summary(&self, row: Package, newest: &Entry, installed: Option<Installed>) -> Result<Summary, Problem> {
        let kept = if newest.version.to_string() == row.newest { self.kept_about(&row) } else { None };
        let about = if let Some(about) = kept {
            about
        } else {
            let (version, skills) = self.published(&row.name, &newest.version).await?;
            About::of(&version.published, &skills)
        };
        let (version, status) = (newest.version.clone(), newest.status);
        Ok(Summary { name: row.name, created_us: row.created_us, version, status, about, installed })
    }

    /// What is kept for lists, if it is what the host wrote.
    fn kept_about(&self, row: &Package) -> Option<About> {
        let about = serde_json::from_str(&row.about).ok().filter(|_| same(&row.mac, &self.authentic.listed(row)));
        if about.is_none() {
            self.note_tampered(
                format!("package:{}", row.name),
                json!({ "why": "what lists show of it is not what the host wrote" }),
            );
        }
        about
    }
}

//! The page at `/`: plain files, embedded; they ask for nothing but this server.
//!
//! What the page needs of the server beside the API's own shapes:
//! - `GET /v1/models` names the model; a 401 there or anywhere makes the page ask for a key.
//! - `POST /v1/reports` with `{"model", "images": [{"url": "data:.."}], "indication"?, "include"?: ["preview"], "seed"?,
//!   "stream": true}` answers with server-sent events: `event: delta` `{"section": "findings" | "impression", "text"}`
//!   while the report is written, `event: report` with the whole object, `data: [DONE]`. An object that comes as plain
//!   JSON is understood too. With `include: ["preview"]` each entry of `images` has `preview`, a data URI of a PNG: browsers
//!   cannot draw DICOM files.
//! - The same body without `stream` and with `Accept: application/fhir+json` or `application/dicom` gives the other forms.

/// A file of the page.
pub(super) struct Asset {
    /// Where it is served.
    pub(super) path: &'static str,
    /// Its `Content-Type`.
    pub(super) media_type: &'static str,
    /// Its text.
    pub(super) body: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All files of the page.
pub(super) const ASSETS: [Asset; 6] = [
    Asset { path: "/", media_type: "text/html; charset=utf-8", body: include_str!("page/index.html") },
    Asset {
        path: "/page/style.css",
        media_type: "text/css; charset=utf-8",
        body: include_str!("page/style.css"),
    },
    Asset { path: "/page/main.js", media_type: SCRIPT, body: include_str!("page/main.js") },
    Asset { path: "/page/api.js", media_type: SCRIPT, body: include_str!("page/api.js") },
    Asset { path: "/page/picture.js", media_type: SCRIPT, body: include_str!("page/picture.js") },
    Asset { path: "/page/text.js", media_type: SCRIPT, body: include_str!("page/text.js") },
];

/// `Content-Security-Policy` of the page: no request to anywhere else, no script but its own, in nobody's frame.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    /// Text between `before` and the next quote, for every `before`.
    fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn everything_that_the_page_loads_is_served() {
        let served = |path: &str| ASSETS.iter().any(|asset| asset.path == path);
        let html = ASSETS[0].body;
        let links =
            [quoted_after(html, "<link rel=\"stylesheet\" href=\""), quoted_after(html, " src=\"")].concat();
        assert_eq!(links, ["/page/style.css", "/page/main.js"]);
        assert!(links.iter().all(|path| served(path)));
        for asset in ASSETS.iter().filter(|asset| asset.media_type == SCRIPT) {
            for import in quoted_after(asset.body, " from \"./") {
                assert!(served(&format!("/page/{import}")), "{}: {import}", asset.path);
            }
        }
    }

    #[test]
    fn nothing_is_asked_of_others() {
        for asset in ASSETS {
            for mark in ["http://", "https://", "//cdn", "@import", "url(", "eval(", "innerHTML", "style=\""]
            {
                assert!(!asset.body.contains(mark), "{}: {mark}", asset.path);
            }
        }
    }

    #[test]
    fn scripts_find_their_elements() {
        let html = ASSETS[0].body;
        for asset in ASSETS.iter().filter(|asset| asset.media_type == SCRIPT) {
            for id in
                [quoted_after(asset.body, "at(\""), quoted_after(asset.body, "querySelector(\"#")].concat()
            {
                assert!(html.contains(&format!("id=\"{id}\"")), "{}: #{id}", asset.path);
            }
        }
    }
}

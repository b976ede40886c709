//! `swinseek serve`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[cfg(not(feature = "otlp"))]
use anyhow::bail;
use anyhow::{Context, Result};
use clap::Args;
use swinseek_fusion::pipeline::Pipeline;
use swinseek_kernels::Compute;
use tokio::sync::watch;
#[cfg(feature = "otlp")]
use tracing::Subscriber;
#[cfg(not(feature = "otlp"))]
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;
#[cfg(feature = "otlp")]
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::args::default_model;
use super::output::print_now;
use crate::engine::{Engine, Frontend, JoinedModel};
use crate::server::{Flags, LogFormat, Server, Settings, new_key};

/// Flags of `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every flag can be given as a variable (SWINSEEK_MAX_QUEUE) and as a key of the TOML file of
--config (max_queue = 64); flags win over variables, variables over the file.

Examples:
  swinseek serve
  swinseek serve --new-key pacs >> keys.toml       the key itself appears on standard error, once
  swinseek serve --host 0.0.0.0 --api-keys keys.toml --audit audit.jsonl --tls-cert c.pem --tls-key k.pem"
)]
pub(super) struct ServeArgs {
    /// TOML file of settings.
    #[arg(long, value_name = "FILE", env = "SWINSEEK_CONFIG")]
    config: Option<PathBuf>,
    /// Check settings, key file and model, and exit.
    #[arg(long)]
    check_config: bool,
    /// Make an API key: prints the section for the key file, and the key on standard error.
    #[arg(long, value_name = "NAME")]
    new_key: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &ServeArgs) -> Result<ExitCode> {
    if let Some(name) = &args.new_key {
        let (key, section) = new_key(name)?;
        print_now(&section)?;
        eprintln!("{key}");
        return Ok(ExitCode::SUCCESS);
    }
    let flags = match &args.config {
        Some(path) => args.flags.over_file(path)?,
        None => args.flags.clone(),
    };
    let _spans = start_log(&flags)?;
    let mut settings = Settings::resolve(&flags)?;
    let engine_config = Settings::engine(&flags)?;
    let (pipeline, directory) = open(&flags)?;
    if settings.model_name.is_none() {
        settings.model_name = Some(name_of(&directory));
    }
    settings.check_files()?;
    if args.check_config {
        eprintln!("the settings are right");
        return Ok(ExitCode::SUCCESS);
    }
    if !settings.address.ip().is_loopback() && settings.api_keys.is_none() {
        tracing::warn!("anyone who reaches {} may ask: there are no API keys", settings.address);
    }
    let model = JoinedModel::new(pipeline, settings.model_name.clone().unwrap_or_default());
    let frontend = model.frontend();
    let engine = Engine::start(model, engine_config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let all = runtime.block_on(serve(settings, engine.clone(), frontend))?;
    runtime.shutdown_background();
    engine.wait();
    if !all {
        tracing::warn!("some requests were not finished in time");
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(settings: Settings, engine: Engine, frontend: Frontend) -> Result<bool> {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let server = Server::bind(settings, engine, frontend).await?;
    // Standard output is for programs: the one thing they may need is where it listens.
    print_now(&format!("{scheme}://{}\n", server.address()))?;
    let (stop, stopped) = watch::channel(false);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        let _ = stop.send(true);
        // Kept until the process ends: a second signal changes nothing.
        std::future::pending::<()>().await;
    });
    Ok(server.run(stopped).await)
}

fn open(flags: &Flags) -> Result<(Pipeline, PathBuf)> {
    let directory = flags.model.clone().map_or_else(default_model, Ok)?;
    let device = swinseek_kernels::device::open(flags.device.as_deref().unwrap_or("cpu"))?;
    let compute = Compute { precision: flags.precision.unwrap_or_default().into(), device };
    Ok((Pipeline::open(&directory, compute)?, directory))
}

/// A model is called like its directory; the default one lies in `model`, which says nothing.
fn name_of(directory: &Path) -> String {
    let name = directory.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    name.filter(|name| name != "model").unwrap_or_else(|| "swinseek".to_owned())
}

/// Starts the log, and the export of spans; what comes back sends the last ones when it is dropped.
fn start_log(flags: &Flags) -> Result<impl Sized> {
    let filter = flags.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter `{filter}`"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match flags.log_format.unwrap_or_default() {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let (export, spans) = exporter(flags.otlp_endpoint.as_deref())?;
    tracing_subscriber::registry().with(export).with(lines).with(filter).init();
    Ok(spans)
}

#[cfg(feature = "otlp")]
fn exporter<S>(endpoint: Option<&str>) -> Result<(Option<impl Layer<S>>, Option<impl Sized + use<S>>)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let export = endpoint.map(crate::server::otlp::layer::<S>).transpose()?;
    Ok(export.map_or((None, None), |(layer, spans)| (Some(layer), Some(spans))))
}

#[cfg(not(feature = "otlp"))]
fn exporter(endpoint: Option<&str>) -> Result<(Option<Identity>, ())> {
    match endpoint {
        Some(_) => bail!("otlp_endpoint: this program was built without the feature `otlp`"),
        None => Ok((None, ())),
    }
}

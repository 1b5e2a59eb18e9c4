//! How somebody proves who it is: a second factor after the password, directories, providers of identities.

mod qr;
pub(crate) mod totp;

pub use qr::QrPicture;
pub use totp::TotpSecret;

/// What the configuration says of log-ins.
#[derive(Debug, Clone, Default)]
pub struct SignIn {
    /// Whether the server's own users with a password need a second factor.
    pub second_factor_required: bool,
}

//! The certificates of a cluster: one authority, one certificate a server and a client.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::{Error, Folder, Profile, State, kubeconfig};
use crate::files;

/// First address of the Service range: the API server's own Service.
const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// A certificate and its key, as PEM.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What later steps need in memory; the rest is read from the folder by the processes themselves.
#[derive(Debug)]
pub(super) struct Keys {
    /// The authority's certificate, as PEM.
    pub(super) ca: String,
    /// The administrator (`system:masters`).
    pub(super) admin: Pair,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// Makes all certificates and kubeconfigs of a cluster and writes them into its folder (`pki/`).
pub(super) fn make(folder: &Folder, state: &State) -> Result<Keys, Error> {
    let pki = |file: &str| folder.join(&format!("pki/{file}"));
    let (authority, ca) = Authority::new()?;
    files::write(&pki("ca.crt"), &ca.certificate)?;
    files::write_private(&pki("ca.key"), &ca.key)?;
    let tokens = KeyPair::generate()?;
    files::write_private(&pki("service-account.key"), tokens.serialize_pem())?;
    files::write(&pki("service-account.pub"), tokens.public_key_pem())?;

    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST), API_SERVICE.into()];
    addresses.extend(state.network.as_ref().map(|network| IpAddr::from(network.node_address)));
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let api_server = authority.issue(&Subject {
        common_name: "kube-apiserver",
        organization: None,
        names: &names,
        addresses: &addresses,
    })?;
    store(folder, "apiserver", &api_server)?;

    let admin = authority.issue(&Subject::client("admin", Some("system:masters")))?;
    let server = state.server();
    let write_config = |path: &std::path::Path, client: &Pair| {
        kubeconfig::write(path, &format!("trainerd-{}", state.name), &server, &ca.certificate, client)
    };
    write_config(&folder.kubeconfig(), &admin)?;
    write_config(
        &pki("controller-manager.conf"),
        &authority.issue(&Subject::client("system:kube-controller-manager", None))?,
    )?;

    if let (Profile::Node, Some(network)) = (state.profile, &state.network) {
        for (file, user) in [("scheduler", "system:kube-scheduler"), ("proxy", "system:kube-proxy")] {
            write_config(&pki(&format!("{file}.conf")), &authority.issue(&Subject::client(user, None))?)?;
        }
        let user = format!("system:node:{}", state.name);
        let kubelet = authority.issue(&Subject {
            common_name: &user,
            organization: Some("system:nodes"),
            names: &[&state.name],
            addresses: &[network.node_address.into()],
        })?;
        store(folder, "kubelet", &kubelet)?;
        write_config(&pki("kubelet.conf"), &kubelet)?;
        let to_kubelet =
            authority.issue(&Subject::client("kube-apiserver-kubelet-client", Some("system:masters")))?;
        store(folder, "apiserver-kubelet-client", &to_kubelet)?;
    }
    Ok(Keys { ca: ca.certificate, admin })
}

fn store(folder: &Folder, name: &str, pair: &Pair) -> Result<(), Error> {
    files::write(&folder.join(&format!("pki/{name}.crt")), &pair.certificate)?;
    files::write_private(&folder.join(&format!("pki/{name}.key")), &pair.key)?;
    Ok(())
}

/// Whom a certificate is for: Kubernetes reads the user from the common name, the group from the organization.
struct Subject<'a> {
    common_name: &'a str,
    organization: Option<&'a str>,
    names: &'a [&'a str],
    addresses: &'a [IpAddr],
}

impl<'a> Subject<'a> {
    fn client(common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self { common_name, organization, names: &[], addresses: &[] }
    }
}

impl Authority {
    fn new() -> Result<(Self, Pair), Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "trainerd local cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pair = Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
        Ok((Self { issuer: Issuer::new(params, key) }, pair))
    }

    /// Issues a certificate: for a server too where the subject has names or addresses.
    fn issue(&self, subject: &Subject<'_>) -> Result<Pair, Error> {
        let mut params =
            CertificateParams::new(subject.names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = subject.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !params.subject_alt_names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

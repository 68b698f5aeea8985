#pragma once
#include <string.h>
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

// Macros of OpenSSL that Swift does not import, as functions.
static inline int ssl_ctx_set_min_version(SSL_CTX *c, int v) { return SSL_CTX_set_min_proto_version(c, v); }
static inline int ssl_ctx_set_max_version(SSL_CTX *c, int v) { return SSL_CTX_set_max_proto_version(c, v); }
static inline long ssl_ctx_set_modes(SSL_CTX *c, long m) { return SSL_CTX_set_mode(c, m); }
static inline uint64_t ssl_ctx_add_options(SSL_CTX *c, uint64_t o) { return SSL_CTX_set_options(c, o); }
static inline uint64_t ssl_no_renegotiation(void) { return SSL_OP_NO_RENEGOTIATION; }
static inline uint64_t ssl_no_compression(void) { return SSL_OP_NO_COMPRESSION; }
static inline long ssl_bio_read_pending(BIO *b) { return (long)BIO_ctrl_pending(b); }
static inline long ssl_set_host_name(SSL *s, const char *n) { return SSL_set_tlsext_host_name(s, n); }

// Trust by fingerprint: a chain is good when one of the certificates that the peer sent has this SHA-256 digest and the
// chain holds up to it; else the usual authorities decide. Names and dates are checked as ever.
static inline int ssl_verify_with_fingerprint(X509_STORE_CTX *chain, void *fingerprint) {
  STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(chain);
  for (int i = 0; i < sk_X509_num(sent); i++) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    X509 *certificate = sk_X509_value(sent, i);
    if (X509_digest(certificate, EVP_sha256(), digest, &length) && length == 32 && !memcmp(digest, fingerprint, 32)) {
      X509_STORE_add_cert(X509_STORE_CTX_get0_store(chain), certificate);
      X509_STORE_CTX_set_flags(chain, X509_V_FLAG_PARTIAL_CHAIN);
      break;
    }
  }
  return X509_verify_cert(chain);
}
/// `fingerprint` is 32 bytes that outlive the context.
static inline void ssl_ctx_trust_fingerprint(SSL_CTX *context, unsigned char *fingerprint) {
  SSL_CTX_set_cert_verify_callback(context, ssl_verify_with_fingerprint, fingerprint);
}

// Certificate, key and chain of a PKCS#12 file. 0: taken, 1: the file cannot be opened (errno), 2: it is no PKCS#12 file,
// 3: the password is wrong or the encryption not known, 4: certificate or key is missing, 5: OpenSSL takes them not.
static inline int ssl_ctx_use_keystore(SSL_CTX *context, const char *path, const char *password) {
  BIO *file = BIO_new_file(path, "rb");
  if (!file) return 1;
  PKCS12 *store = d2i_PKCS12_bio(file, NULL);
  BIO_free(file);
  if (!store) return 2;
  EVP_PKEY *key = NULL;
  X509 *certificate = NULL;
  STACK_OF(X509) *chain = NULL;
  int result = PKCS12_parse(store, password, &key, &certificate, &chain) ? 0 : 3;
  PKCS12_free(store);
  if (!result && (!key || !certificate)) result = 4;
  if (!result && (SSL_CTX_use_certificate(context, certificate) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1
                  || SSL_CTX_check_private_key(context) != 1))
    result = 5;
  for (int i = 0; !result && i < sk_X509_num(chain); i++)
    if (SSL_CTX_add1_chain_cert(context, sk_X509_value(chain, i)) != 1) result = 5;
  EVP_PKEY_free(key);
  X509_free(certificate);
  sk_X509_pop_free(chain, X509_free);
  return result;
}

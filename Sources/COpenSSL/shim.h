#pragma once
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
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

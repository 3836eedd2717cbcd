package testvault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"
)

// Kubernetes is as much of the API server of a Kubernetes cluster as Vault's
// auth method needs: it issues the tokens of service accounts, and reviews them.
type Kubernetes struct {
	// URL is its address.
	URL string
	// Reviewer is the token of an account that may have tokens reviewed.
	Reviewer string

	server *httptest.Server
	key    *ecdsa.PrivateKey

	mu      sync.Mutex
	issued  map[string]serviceAccount // by token
	reviews int
}

type serviceAccount struct {
	namespace, name string
	ends            time.Time
}

func (a serviceAccount) user() string { return "system:serviceaccount:" + a.namespace + ":" + a.name }

// uid is the same for all tokens of an account.
func (a serviceAccount) uid() string {
	sum := sha256.Sum256([]byte(a.user()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// StartKubernetes starts one on loopback.
func StartKubernetes() (*Kubernetes, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	k := &Kubernetes{key: key, issued: map[string]serviceAccount{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", k.review)
	k.server = httptest.NewServer(mux)
	k.URL = k.server.URL
	k.Reviewer, err = k.Token("kube-system", "vault", time.Hour)
	return k, err
}

// Stop ends it.
func (k *Kubernetes) Stop() { k.server.Close() }

// kubernetesAudience is who all of the tokens are for.
const kubernetesAudience = "vault"

// Token issues a token of a service account, as a projected volume has it. It is
// like no other.
func (k *Kubernetes) Token(namespace, name string, lifetime time.Duration) (string, error) {
	now := time.Now()
	account := serviceAccount{namespace, name, now.Add(lifetime)}
	text := encodePart(map[string]any{"alg": "ES256", "kid": "cluster"}) + "." + encodePart(map[string]any{
		"iss": "https://kubernetes.default.svc", "aud": []string{kubernetesAudience}, "sub": account.user(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": account.ends.Unix(), "jti": rand.Text(),
		"kubernetes.io": map[string]any{
			"namespace":      namespace,
			"serviceaccount": map[string]any{"name": name, "uid": account.uid()},
		},
	})
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.key, sum[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	token := text + "." + base64.RawURLEncoding.EncodeToString(signature[:])
	k.mu.Lock()
	defer k.mu.Unlock()
	k.issued[token] = account
	return token, nil
}

func encodePart(v any) string {
	text, _ := json.Marshal(v) // of strings, numbers and maps of them
	return base64.RawURLEncoding.EncodeToString(text)
}

// Delete takes a token back, as when its pod is deleted.
func (k *Kubernetes) Delete(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.issued, token)
}

// Reviews returns how many tokens have been reviewed.
func (k *Kubernetes) Reviews() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reviews
}

// known returns the account of a token that is good now.
func (k *Kubernetes) known(token string) (serviceAccount, bool) {
	account, ok := k.issued[token]
	return account, ok && time.Now().Before(account.ends)
}

// review answers a TokenReview
// (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/).
func (k *Kubernetes) review(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer "+k.Reviewer {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": http.StatusForbidden})
		return
	}
	var asked struct {
		Spec struct {
			Token     string   `json:"token"`
			Audiences []string `json:"audiences"`
		} `json:"spec"`
	}
	if json.NewDecoder(r.Body).Decode(&asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	k.reviews++
	status := map[string]any{"authenticated": false, "error": "[invalid bearer token, service account token has been invalidated]"}
	account, ok := k.known(asked.Spec.Token)
	if ok && (len(asked.Spec.Audiences) == 0 || slices.Contains(asked.Spec.Audiences, kubernetesAudience)) {
		status = map[string]any{
			"authenticated": true, "audiences": []string{kubernetesAudience},
			"user": map[string]any{"username": account.user(), "uid": account.uid()},
		}
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status})
}

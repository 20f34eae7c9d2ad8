package wallet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/vigil-ark/vigil/ark"
	"github.com/vigil-ark/vigil/bip340"
)

// maxAnswer bounds a delegate service's answer, in bytes.
const maxAnswer = 1 << 20

// ErrInfo is returned for a delegate service whose info does not decode.
var ErrInfo = errors.New("wallet: delegate service info is invalid")

// ServiceError is a delegate service's refusal. The stock wallet shows its
// body to the user.
type ServiceError struct {
	Status int
	Body   string
}

// Error says status and body.
func (e *ServiceError) Error() string {
	return fmt.Sprintf("wallet: delegate service answered %d: %s", e.Status, e.Body)
}

// Service is a delegate service over REST, as the stock wallet speaks to it.
type Service struct {
	URL    string       // without a trailing slash
	Client *http.Client // nil is http.DefaultClient
}

// Info reads who the service is (GET /v1/delegator/info, the path that the
// stock wallet asks).
func (s Service) Info(ctx context.Context) (DelegateInfo, error) {
	body, err := s.do(ctx, http.MethodGet, "/v1/delegator/info", nil)
	if err != nil {
		return DelegateInfo{}, err
	}
	var raw struct {
		PubKey           string `json:"pubkey"`
		Fee              string `json:"fee"`
		DelegateAddress  string `json:"delegateAddress"`
		DelegatorAddress string `json:"delegatorAddress"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return DelegateInfo{}, fmt.Errorf("%w: %w", ErrInfo, err)
	}
	var info DelegateInfo
	if info.Key, err = bip340.ParsePubKeyHex(raw.PubKey); err != nil {
		return DelegateInfo{}, fmt.Errorf("%w: pubkey: %w", ErrInfo, err)
	}
	if info.Fee, err = strconv.ParseInt(raw.Fee, 10, 64); err != nil {
		return DelegateInfo{}, fmt.Errorf("%w: fee: %w", ErrInfo, err)
	}
	addr := raw.DelegateAddress
	if addr == "" {
		addr = raw.DelegatorAddress
	}
	if info.Address, err = ark.ParseAddress(addr); err != nil {
		return DelegateInfo{}, fmt.Errorf("%w: address: %w", ErrInfo, err)
	}
	return info, nil
}

// Delegate hands a delegate over (POST /v1/delegate); a refusal is a
// *ServiceError.
func (s Service) Delegate(ctx context.Context, req DelegateRequest) error {
	return s.Post(ctx, "/v1/delegate", req, nil)
}

// Post sends a JSON body to a path of the service and decodes the answer into
// out unless that is nil.
func (s Service) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("wallet: delegate service: %w", err)
	}
	answer, err := s.do(ctx, http.MethodPost, path, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("wallet: answer of the delegate service: %w", err)
	}
	return nil
}

func (s Service) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(s.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("wallet: delegate service: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("wallet: delegate service: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("wallet: delegate service: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &ServiceError{resp.StatusCode, string(answer)}
	}
	return answer, nil
}

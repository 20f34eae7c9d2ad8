package arktest

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/vigil-ark/vigil/arktest/internal/code"
	arkv1 "github.com/vigil-ark/vigil/internal/pb/ark/v1"
)

// guard holds the checks before a call: version, then digest (protocol section
// 1.1.3). They concern the ArkService only.
func (op *Operator) guard(ctx context.Context, method string) error {
	if !strings.HasPrefix(method, "/"+arkv1.ArkService_ServiceDesc.ServiceName+"/") {
		return nil
	}
	set := op.Settings()
	got := header(ctx, "x-build-version")
	version, ok := parseVersion(got)
	least, _ := parseVersion(set.MinBuildVersion)
	if (!ok && set.RequireBuildVersion) || (ok && less(version, least)) {
		return code.BuildVersion.New(code.Meta{"client_version": got, "min_version": set.MinBuildVersion},
			"server requires build version header >= %s", set.MinBuildVersion)
	}
	if method == arkv1.ArkService_GetInfo_FullMethodName {
		return nil
	}
	if d := header(ctx, "x-digest"); d != "" || set.RequireDigest {
		if want := op.digest(); d != want {
			return code.DigestMismatch.New(code.Meta{"expected_digest": want, "got_digest": d}, "invalid digest header")
		}
	}
	return nil
}

func header(ctx context.Context, name string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// parseVersion reads major.minor.patch; missing parts are 0 and what follows
// the patch's digits is ignored.
func parseVersion(s string) (v [3]int64, ok bool) {
	for i, part := range strings.SplitN(strings.TrimPrefix(s, "v"), ".", 4) {
		if i == 3 {
			break
		}
		if i == 2 {
			part = part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		}
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return [3]int64{}, false
		}
		v[i] = n
	}
	return v, true
}

func less(a, b [3]int64) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// unary is the interceptor of every call: count, faults, guards, work.
func (op *Operator) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	op.rec.call(info.FullMethod)
	hit, faulty := op.faults.take(info.FullMethod)
	if faulty {
		if err := op.faults.before(ctx, hit); err != nil {
			return nil, err
		}
	}
	if err := op.guard(ctx, info.FullMethod); err != nil {
		return nil, asStatus(err)
	}
	res, err := handler(ctx, req)
	if faulty && hit.LoseAnswer {
		return nil, status.Error(codes.Unavailable, "injected fault: connection lost")
	}
	return res, asStatus(err)
}

// stream is the interceptor of every stream.
func (op *Operator) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	op.rec.call(info.FullMethod)
	if hit, faulty := op.faults.take(info.FullMethod); faulty {
		if err := op.faults.before(ss.Context(), hit); err != nil {
			return err
		}
	}
	if err := op.guard(ss.Context(), info.FullMethod); err != nil {
		return asStatus(err)
	}
	return asStatus(handler(srv, ss))
}

// asStatus gives a coded error its gRPC status even where it is wrapped.
func asStatus(err error) error {
	var e *code.Error
	if errors.As(err, &e) {
		return e.GRPCStatus().Err()
	}
	return err
}
